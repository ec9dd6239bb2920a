"""What does the directory of a version of trees hold? Text and JSON alone.

model.txt is LightGBM's own text model; config.json has the columns, their categories and, where it
sorts into classes, those; upkeep.json what the service knows of the version. This module does not
load LightGBM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from upkeep.tables import CONFIG, MODEL, Column, read_columns, read_labels
from workers.training.errors import RecipeError
from workers.training.files import check_artifact, read_json, write_json
from workers.training.versions import UPKEEP, Card, contract_fields, label_maps

OF_CLASSES: Final = "tabular-classification"
OF_NUMBERS: Final = "tabular-regression"
LIBRARIES: Final = ("lightgbm", "numpy")


@dataclass(frozen=True, slots=True)
class TreesVersion:
    """A version of trees as files.

    Attributes:
        labels: class names, in the order of the scores; none where it answers with numbers.
        columns: what it reads, in the order of its features.
        text: of its trees; empty while there are none.
        contract: the fields of an input.
    """

    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    text: str
    contract: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, directory: Path, *, has_labels: bool = True) -> "TreesVersion":
        """Read a version; one without trees is untrained.

        Args:
            directory: where it lies.
            has_labels: whether it sorts into classes, rather than answering with numbers.

        Raises:
            UnsafeArtifact: the directory holds a file that could run code.
            RecipeError: it is no such version; says what is wrong.
        """
        check_artifact(directory)
        config, card = read_json(directory / CONFIG), read_json(directory / UPKEEP) or {}
        path = directory / MODEL
        try:
            labels = read_labels(config) if has_labels else ()
            columns = read_columns(config)
            text = path.read_text() if path.exists() else ""
        except (ValueError, OSError) as error:
            raise RecipeError(f"{directory.name!r} is no version of trees: {error}") from error
        fields = contract_fields(card.get("input_contract"))
        return cls(labels, columns, text, fields)

    def widened(self, labels: Sequence[str]) -> "TreesVersion":
        """Return an untrained version of these labels: trees grown for fewer cannot grow on."""
        return replace(self, labels=tuple(labels), text="")

    def write(self, directory: Path) -> None:
        """Write the version."""
        directory.mkdir(parents=True, exist_ok=True)
        names = label_maps(self.labels)
        ids = {str(place): label for place, label in names["id2label"].items()}
        write_json(
            directory / CONFIG,
            {
                "model_type": "lightgbm",
                "columns": [column.document() for column in self.columns],
                **({"id2label": ids, "label2id": names["label2id"]} if self.labels else {}),
            },
        )
        if self.text:
            (directory / MODEL).write_text(self.text)
        Card(
            OF_CLASSES if self.labels else OF_NUMBERS,
            self.labels,
            "",
            self.contract,
            is_pretrained=bool(self.text),
            libraries=LIBRARIES,
        ).write(directory)
