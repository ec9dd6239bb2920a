"""What does a version's directory hold, besides what transformers itself writes?"""

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from workers.training.files import check_artifact, read_json, write_json
from workers.training.layers import widen_head
from workers.training.probe import infer, softmax
from workers.training.task_type import Inputs, Learner

UPKEEP = "upkeep.json"
PRESET = "preset:"
LIBRARIES = ("transformers", "torch", "safetensors", "numpy")
WEIGHTS = ("config.json", "model.safetensors")
LOADING: Mapping[str, Any] = {"use_safetensors": True, "trust_remote_code": False}

transformers_logging.set_verbosity(logging.ERROR)
transformers_logging.disable_progress_bar()


def library_versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Return the version of each library that shapes what a version has learned."""
    return {name: importlib.metadata.version(name) for name in libraries}


@dataclass(frozen=True, slots=True)
class Card:
    """What upkeep.json says of a version.

    Attributes:
        input_field: name of the field of an input that the model reads; empty where it reads
            columns.
        is_pretrained: whether the weights below the head have learned anything.
        libraries: those that shape what it has learned.
    """

    task_type: str
    labels: tuple[str, ...]
    input_field: str
    input_contract: Sequence[Mapping[str, Any]]
    is_pretrained: bool
    libraries: Sequence[str] = LIBRARIES

    def write(self, directory: Path) -> None:
        """Write upkeep.json."""
        write_json(
            directory / UPKEEP,
            {
                "task_type": self.task_type,
                "labels": list(self.labels),
                "input_field": self.input_field or None,
                "input_contract": {"fields": [dict(field) for field in self.input_contract]},
                "is_pretrained": self.is_pretrained,
                "library_versions": library_versions(self.libraries),
            },
        )


def contract_fields(value: Any) -> list[dict[str, Any]]:  # JSON
    """Return the fields of an input contract, given as {"fields": [...]} or as the list."""
    fields = value.get("fields") if isinstance(value, Mapping) else value
    return [dict(field) for field in fields or ()]


def input_field(fields: Sequence[Mapping[str, Any]], kind: str, default: str) -> str:
    """Return the name of the first field of a kind ("text", "image") that is kept as it comes."""
    for field in fields:
        if field.get("type") == kind and not field.get("privacy"):
            return str(field["name"])
    return default


def read_card(directory: Path, *, task_type: str, kind: str) -> Card:
    """Return a version's card; for a plain transformers directory, what its config implies.

    Raises:
        UnsafeArtifact: the directory holds a file that could run code.
        RecipeError: it is no model directory.
    """
    check_artifact(directory)
    config = read_json(directory / "config.json") or {}
    names = config.get("id2label") or {}
    labels = tuple(str(names[key]) for key in sorted(names, key=int))
    value = read_json(directory / UPKEEP)
    if not isinstance(value, dict):
        return Card(task_type, labels, kind, (), is_pretrained=True)
    fields = contract_fields(value.get("input_contract"))
    field = str(value.get("input_field") or input_field(fields, kind, kind))
    return Card(
        task_type,
        tuple(value.get("labels") or labels),
        field,
        fields,
        is_pretrained=bool(value.get("is_pretrained", True)),
    )


def label_maps(labels: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of a transformers config that name the classes."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: k for k, label in enumerate(labels)},
    }


def widen(model: Any, labels: Sequence[str], wider: Sequence[str]) -> None:
    """Have a classification model tell more classes apart: its head, and its config."""
    widen_head(model, labels, wider)
    for name, value in label_maps(wider).items():
        if name != "num_labels":  # follows from the names
            setattr(model.config, name, value)
    model.num_labels = len(wider)


@dataclass(frozen=True, slots=True)
class LearnerClassifier:
    """A version loaded for inference: a learner that is never taught.

    Attributes:
        budget: largest padded cost of a batch, in the unit of the learner's lengths.
    """

    learner: Learner
    budget: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the score columns."""
        return self.learner.labels

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k)."""
        if not inputs:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        _, logits = infer(self.learner, self.learner.encode(inputs), budget=self.budget)
        return softmax(logits)

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return what the last linear layer sees, shape (n, d)."""
        if not inputs:
            return np.zeros((0, 0), dtype=np.float32)
        features, _ = infer(self.learner, self.learner.encode(inputs), budget=self.budget)
        return features
