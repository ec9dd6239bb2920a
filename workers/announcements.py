"""What this worker can measure and train, in the form the control plane reads."""

import transformers

import workers.detectors
import workers.task_types
from app.domain.registry import scan
from app.services.ports import Plugin
from workers.detectors import described
from workers.task_types import task_types

scan(workers.task_types)
scan(workers.detectors)


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
            },
            f"transformers {transformers.__version__}",
        )
        for name, task_type in task_types.items()
    ]
    return [*measured, *learned]
