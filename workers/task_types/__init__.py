"""What can be learned: one file a task type, each registering itself."""

from app.domain.registry import Registry
from workers.training.task_type import TaskType

task_types: Registry[TaskType] = Registry("task type")
