"""What this worker can measure and train, in the form the control plane reads."""

import importlib.metadata

import workers.detectors
import workers.task_types
from app.domain.registry import scan
from app.services.ports import Plugin
from workers.detectors import described
from workers.task_types import task_types
from workers.training.task_type import HasColumns, TaskType, answers_of

scan(workers.task_types)
scan(workers.detectors)


def column_types(task_type: TaskType) -> list[str]:
    """Return the types of the fields that a task type reads as columns; none for most."""
    return list(task_type.column_types) if isinstance(task_type, HasColumns) else []


def plugins() -> list[Plugin]:
    """Return every detector and task type of this process."""
    measured = [
        Plugin(
            "detector",
            item["name"],
            item["description"],
            item["options"],
            {"kinds": item["kinds"], "sees": item["sees"]},
        )
        for item in described()
    ]
    learned = [
        Plugin(
            "task_type",
            name,
            task_type.description,
            task_type.recipe_schema,
            {
                "metrics": list(task_type.metrics),
                "default_contract": list(task_type.default_contract),
                "column_types": column_types(task_type),
                "answers": answers_of(task_type),
                "needed_files": list(task_type.needed_files),
                "libraries": list(task_type.libraries),
            },
            f"{task_type.libraries[0]} {importlib.metadata.version(task_type.libraries[0])}",
        )
        for name, task_type in task_types.items()
    ]
    return [*measured, *learned]
