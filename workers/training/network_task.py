"""What have task types of networks over columns in common? All but what they tell.

They read the columns that trees read (`workers.training.tables`), and the loop trains them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from upkeep.column_network import WEIGHTS, Network, Sizes
from upkeep.tables import CONFIG, Column, read_columns
from workers.training import tables
from workers.training.column_learner import LIBRARIES, ColumnLearner, write
from workers.training.column_task import ColumnsTaskType, LoadedColumns
from workers.training.errors import RecipeError
from workers.training.files import check_artifact, read_json
from workers.training.task_type import Inputs
from workers.training.versions import PRESET, UPKEEP, Card, contract_fields

PRESETS: Final = (f"{PRESET}column-network",)
DEFAULTS: Final[Mapping[str, Any]] = {
    "epochs": 100,
    "trainable_layers": None,
    "learning_rate": 2e-3,
    "head_learning_rate": 2e-3,
    "validation_share": 0.15,
    "patience": 15,
    "precision": "fp32",
}
KNOBS: Final[Mapping[str, Mapping[str, Any]]] = {
    "batch_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 65_536,
        "default": 64,
        "description": "Rows of a step.",
    },
    "hidden_share": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.9,
        "default": 0.05,
        "description": (
            "Share of the values hidden while training, others in each step, so that the network "
            "knows what to make of missing values and unseen categories."
        ),
    },
}
SEARCHED: Final[Mapping[str, Mapping[str, Any]]] = {
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "head_learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "batch_size": {"low": 16, "high": 256, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
    "hidden_share": {"low": 0.0, "high": 0.2},
}


@dataclass(frozen=True, slots=True)
class LoadedNetwork(LoadedColumns):
    """A version loaded for inference; `Champion` answers by the same network."""

    network: Network

    @property
    def columns(self) -> Sequence[Column]:
        """Return the columns as they were fitted."""
        return self.network.columns


class NetworkTaskType(ColumnsTaskType):
    """Rows of columns, by a network; what they are answered with is for the task type to say.

    Attributes:
        has_labels: whether it tells classes apart.
    """

    name: str
    has_labels: ClassVar[bool]
    needed_files: ClassVar[tuple[str, ...]] = (CONFIG, WEIGHTS)
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    def create(
        self,
        base_model: str,
        labels: Sequence[str],
        directory: Path,
        *,
        seed: int,
        input_contract: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write an untrained version from the preset, or a version from a local directory.

        A directory has a config.json with the columns, perhaps other sizes than the preset's, and
        may have weights, which must know the same labels. The preset takes the columns of the
        input contract.
        """
        fields = list(input_contract or ())
        if labels and not self.has_labels:
            raise RecipeError(f"{self.name} answers with numbers; it has no labels {list(labels)}")
        if base_model in PRESETS:
            columns = tables.columns_of(fields)
            network = Network.drawn(labels, columns, Sizes(), seed=seed)
            self._write(network, fields, directory, is_pretrained=False)
            return
        base = Path(base_model)
        if not base.is_dir():
            raise RecipeError(
                f"base model {base_model!r} is neither {PRESETS[0]} nor a local directory"
            )
        check_artifact(base)
        has_weights = (base / WEIGHTS).exists()
        try:
            if has_weights:
                network = Network.read(base, has_labels=self.has_labels)
            else:
                config = read_json(base / CONFIG)
                columns, sizes = read_columns(config), Sizes.read(config)
                network = Network.drawn(labels, columns, sizes, seed=seed)
        except ValueError as error:
            raise RecipeError(f"base model {base_model!r} cannot be used: {error}") from error
        if network.labels != tuple(labels):
            raise RecipeError(
                f"the base's network knows the labels {list(network.labels)} and the model "
                f"{list(labels)}; remove its {WEIGHTS} to take its columns alone"
            )
        self._write(network, fields, directory, is_pretrained=has_weights)

    def fit_columns(self, directory: Path, inputs: Inputs) -> None:
        """Let a version learn the categories and scales of rows."""
        learner = self.open(directory)
        columns, _ = tables.fitted(learner.network.columns, inputs)
        write(learner.network.with_columns(columns), learner.card, directory)

    def open(self, directory: Path) -> ColumnLearner:
        """Open a version for training.

        Raises:
            UnsafeArtifact: the directory holds a file that could run code.
            RecipeError: it is no such version; says what is wrong.
        """
        check_artifact(directory)
        try:
            network = Network.read(directory, has_labels=self.has_labels)
        except ValueError as error:
            raise RecipeError(
                f"{directory.name!r} is no version of a network over columns: {error}"
            ) from error
        stated = read_json(directory / UPKEEP) or {}
        fields = contract_fields(stated.get("input_contract"))
        is_pretrained = bool(stated.get("is_pretrained", True))
        return ColumnLearner(network, self._card(network, fields, is_pretrained=is_pretrained))

    def _card(
        self, network: Network, fields: Sequence[Mapping[str, Any]], *, is_pretrained: bool
    ) -> Card:
        return Card(
            self.name,
            network.labels,
            "",
            fields,
            is_pretrained=is_pretrained,
            libraries=self.libraries,
        )

    def _write(
        self,
        network: Network,
        fields: Sequence[Mapping[str, Any]],
        directory: Path,
        *,
        is_pretrained: bool,
    ) -> None:
        write(network, self._card(network, fields, is_pretrained=is_pretrained), directory)
