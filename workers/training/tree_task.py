"""What have task types of boosted trees in common? All but what their trees tell.

The columns are those fields of the input contract that are numbers, categories or booleans and
kept as they come. Any of them may be missing, and a category that was never seen is read as
missing. What else the contract has (texts, times, embeddings) is watched and not learned from.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from upkeep.tables import CONFIG, MODEL, Column, read_columns, read_labels
from workers.training import tables
from workers.training.column_task import ColumnsTaskType, LoadedColumns
from workers.training.errors import RecipeError
from workers.training.files import check_artifact, read_json
from workers.training.recipes import COMMON
from workers.training.task_type import Inputs
from workers.training.trainer import Order, Trained, check_start, start_directory
from workers.training.tree_versions import LIBRARIES, TreesVersion
from workers.training.versions import PRESET

BOOSTING: Final = "workers.training.boosting"
TREES: Final = "upkeep.trees"
"""Named, not imported: LightGBM loads scikit-learn and pandas, which a text's training process
need not wait for; and where its library cannot be loaded, all other task types still work."""
SQUARED: Final = "squared"
ABSOLUTE: Final = "absolute"
PRESETS: Final = (f"{PRESET}boosted-trees",)
KNOBS: Final[Mapping[str, Mapping[str, Any]]] = {
    "rounds": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "default": 300,
        "description": "Most rounds of boosting; 0 keeps the start's trees as they are.",
    },
    "learning_rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 10,
        "default": 0.05,
        "description": "How much of its answer each tree adds.",
    },
    "leaves": {
        "type": "integer",
        "minimum": 2,
        "maximum": 1024,
        "default": 15,
        "description": "Most leaves of a tree.",
    },
    "minimum_leaf_rows": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": "Fewest rows of a leaf; null is 20, or a twentieth of few rows.",
    },
    "l2": {
        "type": "number",
        "minimum": 0,
        "maximum": 10_000,
        "default": 1.0,
        "description": "Pulls the answers of small leaves towards none.",
    },
    "column_share": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 1.0,
        "description": "Share of the columns, drawn anew, that a tree may read.",
    },
    "row_share": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 1.0,
        "description": "Share of the rows, drawn anew, that a tree learns from.",
    },
    "trees": {
        "enum": ["auto", "fresh", "continue"],
        "default": "auto",
        "description": (
            "New trees, or more of them on those of the start. auto tries both where there are any."
        ),
    },
    "history": {
        "enum": ["auto", "all", "fading", "newest"],
        "default": "auto",
        "description": (
            "What rows count for that came before the newest, which no version has learned from: "
            "as much, half as much for each such number of rows they are older, or nothing. auto "
            "tries each. What is tried is judged by its loss on held-out newest rows."
        ),
    },
    "fading_rows": {
        "type": ["number", "null"],
        "minimum": 1,
        "default": None,
        "description": (
            "Where history fades, a row counts for half as much for each so many that came after "
            "it, newest ones too; null is as many as the newest are, which count alike."
        ),
    },
    "held_out_share": {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.2,
        "description": "Of the newest rows, to judge what is tried and when to stop.",
    },
    "patience": {
        **COMMON["patience"],
        "default": 30,
        "description": "Stop after this many rounds without a better held-out loss.",
    },
}
SEARCHED: Final[Mapping[str, Mapping[str, Any]]] = {
    "learning_rate": {"low": 0.02, "high": 0.3, "log": True},
    "leaves": {"low": 4, "high": 64, "log": True},
    "minimum_leaf_rows": {"low": 5, "high": 100, "log": True},
    "l2": {"low": 0.01, "high": 100.0, "log": True},
    "column_share": {"low": 0.4, "high": 1.0},
    "row_share": {"low": 0.5, "high": 1.0},
}


@dataclass(frozen=True, slots=True)
class LoadedTrees(LoadedColumns):
    """A version loaded for inference.

    Attributes:
        trees: `upkeep.trees.Trees`, by which `Champion` answers too; None while untrained.
    """

    version: TreesVersion
    trees: Any

    @property
    def columns(self) -> Sequence[Column]:
        """Return the columns as they were fitted."""
        return self.version.columns


class TreesTaskType(ColumnsTaskType):
    """Rows of columns, by boosted trees; what they are answered with is for the task type to say.

    Attributes:
        has_labels: whether its trees tell classes apart.
    """

    name: str
    has_labels: ClassVar[bool]
    needed_files: ClassVar[tuple[str, ...]] = ("config.json", MODEL)
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    def create(
        self,
        base_model: str,
        labels: Sequence[str],
        directory: Path,
        *,
        seed: int,  # nothing is drawn: there are no weights before the first tree
        input_contract: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write an untrained version from the preset, or from a local directory.

        A directory has a config.json with the columns, and may have trees (model.txt), which must
        know the same labels. The preset takes the columns of the input contract.
        """
        fields = list(input_contract or ())
        if labels and not self.has_labels:
            raise RecipeError(f"{self.name} answers with numbers; it has no labels {list(labels)}")
        if base_model in PRESETS:
            columns = tables.columns_of(fields)
            TreesVersion(tuple(labels), columns, "", fields).write(directory)
            return
        base = Path(base_model)
        if not base.is_dir():
            raise RecipeError(
                f"base model {base_model!r} is neither {PRESETS[0]} nor a local directory"
            )
        check_artifact(base)
        config, model = read_json(base / CONFIG), base / MODEL
        try:
            columns = read_columns(config)
            text = model.read_text() if model.exists() else ""
            known = read_labels(config) if text and self.has_labels else tuple(labels)
        except (ValueError, OSError) as error:
            raise RecipeError(f"base model {base_model!r} cannot be used: {error}") from error
        if known != tuple(labels):
            raise RecipeError(
                f"the base's trees know the labels {list(known)} and the model {list(labels)}; "
                "remove its model.txt to take its columns alone"
            )
        TreesVersion(tuple(labels), columns, text, fields).write(directory)

    def fit_columns(self, directory: Path, inputs: Inputs) -> None:
        """Let a version learn the categories and scales of rows."""
        version = self._read(directory)
        columns, _ = tables.fitted(version.columns, inputs)
        replace(version, columns=columns).write(directory)

    def open_trees(self, directory: Path) -> tuple[TreesVersion, Any]:
        """Open a version and its trees for inference; None while it has none.

        Raises:
            RecipeError: its trees are none, or do not fit its columns or labels.
        """
        version = self._read(directory)
        if not version.text:
            return version, None
        trees = _loaded(TREES)
        try:
            return version, trees.Trees(version.text, version.labels, version.columns)
        except ValueError as error:
            raise RecipeError(str(error)) from error

    def _read(self, directory: Path) -> TreesVersion:
        return TreesVersion.read(directory, has_labels=self.has_labels)

    def train(self, order: Order) -> Trained:
        """Grow trees as the order says."""
        start, _ = self.open_trees(start_directory(order.job, self.create))
        if start.labels != order.job.labels and set(start.labels) <= set(order.job.labels):
            start = start.widened(order.job.labels)
        check_start(start.labels, order.job)
        trained: Trained = _loaded(BOOSTING).Boosting(order, start).train()
        return trained


def _loaded(module: str) -> Any:  # LightGBM is not loaded where this is read
    """Return a module that loads LightGBM.

    Raises:
        RecipeError: LightGBM cannot be loaded here.
    """
    try:
        return importlib.import_module(module)
    except OSError as error:
        raise RecipeError(
            f"LightGBM cannot be loaded ({error}); it needs the system's OpenMP library, such as "
            "Debian's package libgomp1"
        ) from error
