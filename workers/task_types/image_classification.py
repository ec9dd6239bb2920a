"""How is a picture sorted into classes? A ResNet or vision transformer with a linear head.

Preprocessing, all of it driven by preprocessor_config.json and easy to repeat elsewhere:

1. decode; convert to "L" if config.json says `num_channels` 1, else to "RGB" (Pillow's `convert`);
2. if `do_resize`: Pillow's `resize((size.width, size.height), resample)`, aspect not kept;
3. multiply by `rescale_factor` (1/255) if `do_rescale`;
4. subtract `image_mean` and divide by `image_std`, channel by channel, if `do_normalize`;
5. channels first, float32: `pixel_values` of shape (n, channels, height, width).

It is what transformers' own `AutoImageProcessor` does with the same file when it is given the
converted picture; torchvision is not needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForImageClassification

from workers.task_types import task_types
from workers.training import lora
from workers.training.data import Rows
from workers.training.errors import DataError, RecipeError
from workers.training.files import check_artifact, read_json
from workers.training.layers import choose_trainable
from workers.training.metrics import OF_CLASSIFIERS
from workers.training.pictures import (
    AUGMENTATIONS,
    SIGNALS,
    Preprocessing,
    augment,
    decode,
    picture_signals,
)
from workers.training.recipes import CLIMBING, recipe_schema
from workers.training.row_file import RowFile
from workers.training.targets import RowTargets
from workers.training.task_type import Examples, Inputs
from workers.training.versions import (
    LIBRARIES,
    LOADING,
    PRESET,
    WEIGHTS,
    Card,
    LearnerClassifier,
    input_field,
    label_maps,
    read_card,
    widen,
)

NAME = "image-classification"
DEFAULTS: Mapping[str, Any] = {
    "epochs": 8,
    "trainable_layers": None,
    "learning_rate": 2e-3,
    "head_learning_rate": 2e-3,
    "batch_size": 64,
    "augmentation": "shift-rotate",
}
KNOBS: Mapping[str, Mapping[str, Any]] = {
    **CLIMBING,
    "batch_size": {"type": "integer", "minimum": 2, "maximum": 65_536},
    "augmentation": {
        "enum": list(AUGMENTATIONS),
        "description": "Random changes of the pictures while training; never flips.",
    },
    "lora_rank": lora.KNOB,
}
SEARCHED: Mapping[str, Mapping[str, Any]] = {
    "learning_rate": {"low": 2e-4, "high": 1e-2, "log": True},
    "head_learning_rate": {"low": 2e-4, "high": 1e-2, "log": True},
    "epochs": {"low": 2, "high": 16, "log": True},
    "augmentation": {"choices": list(AUGMENTATIONS)},
    "mixup": {"choices": [0.0, 0.2, 0.5]},
    "weight_decay": {"low": 1e-3, "high": 0.2, "log": True},
}
INFERENCE_ROWS = 64
DEFAULT_SIZE = 32
_RESNET_TINY: Mapping[str, Any] = {
    "model_type": "resnet",
    "num_channels": 3,
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128],
    "depths": [1, 1, 1],
    "layer_type": "basic",
}
_VIT_TINY: Mapping[str, Any] = {
    "model_type": "vit",
    "num_channels": 3,
    "image_size": 32,
    "patch_size": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "resnet-tiny": _RESNET_TINY,
    "resnet-tiny-gray": {**_RESNET_TINY, "num_channels": 1},
    "vit-tiny": _VIT_TINY,
    "vit-tiny-gray": {**_VIT_TINY, "num_channels": 1},
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """Resized pictures: n arrays of shape (1, channels, height, width), uint8, in a file.

    Attributes:
        lengths: one unit of cost a picture.
    """

    pixels: RowFile
    lengths: NDArray[np.int64]


class ImageLearner:
    """An image version opened for training."""

    can_reuse_lower = False
    answers_tokens = False

    def __init__(self, directory: Path) -> None:
        card = read_card(directory, task_type=NAME, kind="image")
        self.model: Any = AutoModelForImageClassification.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, **LOADING
        )
        self.preprocessing = Preprocessing.read(directory)
        self.card = card
        self.labels = card.labels
        self.is_pretrained = card.is_pretrained
        self._augmentation = "none"

    def encode(self, inputs: Inputs) -> Pictures:
        """Decode and resize pictures."""
        pixels = RowFile.of(self._resized(inputs), np.uint8, self.preprocessing.shape)
        return Pictures(pixels, pixels.lengths)

    def _resized(self, inputs: Inputs) -> Iterator[NDArray[np.uint8]]:
        for index, value in enumerate(inputs):
            try:
                picture = decode(value.get(self.card.input_field))
            except DataError as error:
                raise DataError(f"input {index}: {error}") from error
            yield self.preprocessing.pixels(picture)[None]

    def collate(
        self,
        examples: Pictures,
        rows: NDArray[np.int64],
        *,
        draw: np.random.Generator | None = None,
    ) -> dict[str, Any]:
        """Return normalised pixels, (batch, channels, height, width)."""
        planes = np.concatenate([examples.pixels[row] for row in rows.tolist()])
        pixels = torch.from_numpy(planes).to(self.model.device).float()
        if draw is not None:
            pixels = augment(pixels, self._augmentation, draw)
        return {"pixel_values": self.preprocessing.normalise(pixels)}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the labels."""
        return self.labels

    def targets(self, examples: Examples, rows: Rows) -> RowTargets:
        """Return the class of each row."""
        return RowTargets(rows.indices(self.labels))

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze all but the top layers; remember the augmentation."""
        self._augmentation = str(recipe["augmentation"])
        choose_trainable(self.model, len(self.labels), recipe["trainable_layers"])
        lora.heed(self.model, recipe)

    def batch_budget(self, recipe: Mapping[str, Any]) -> int:
        """Return the pictures of one batch."""
        return int(recipe["batch_size"])

    def widen(self, labels: Sequence[str]) -> None:
        """Give the head an output for each of the labels."""
        widen(self.model, self.labels, labels)
        self.labels = tuple(labels)
        self.card = replace(self.card, labels=self.labels)

    def save(self, directory: Path) -> None:
        """Write the version."""
        lora.merge(self.model)
        directory.mkdir(parents=True)
        self.model.save_pretrained(directory)
        self.preprocessing.write(directory)
        replace(self.card, is_pretrained=True).write(directory)


@task_types.register(NAME)
class ImageClassification:
    """Pictures into classes."""

    name = NAME
    description = "Sorts pictures into classes with a ResNet or a vision transformer"
    metrics: ClassVar[tuple[str, ...]] = OF_CLASSIFIERS
    default_contract: ClassVar[list[dict[str, Any]]] = [
        {"name": "image", "type": "image", "required": True}
    ]
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(DEFAULTS, KNOBS, searched=SEARCHED)
    needed_files: ClassVar[tuple[str, ...]] = WEIGHTS
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
        """Write an untrained version from a preset, a local model or config, or a hub id.

        A preset, or a directory with a config.json alone, is built at random from the seed.
        """
        base = Path(base_model)
        is_local = base.is_dir()
        if is_local:
            check_artifact(base)
        is_preset = base_model.startswith(PRESET)
        has_weights = not is_preset and (not is_local or any(base.glob("*.safetensors")))
        torch.manual_seed(seed)
        try:
            if has_weights:
                model = AutoModelForImageClassification.from_pretrained(
                    base_model,
                    local_files_only=is_local,
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,
                    **label_maps(labels),
                    **LOADING,
                )
            else:
                model = AutoModelForImageClassification.from_config(
                    self._config(base_model, labels)
                )
        except (OSError, ValueError) as error:
            raise RecipeError(f"base model {base_model!r} cannot be loaded: {error}") from error
        directory.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(directory)
        stated = read_json(base / "preprocessor_config.json") if is_local else None
        preprocessing = Preprocessing.suited(model.config, stated, default_size=DEFAULT_SIZE)
        preprocessing.write(directory)
        fields = list(input_contract or self.default_contract)
        field = input_field(fields, "image", "image")
        Card(NAME, tuple(labels), field, fields, is_pretrained=has_weights).write(directory)

    def _config(self, base_model: str, labels: Sequence[str]) -> Any:
        """Return the configuration of a preset or of a config directory."""
        names = label_maps(labels)
        if not base_model.startswith(PRESET):
            return AutoConfig.from_pretrained(base_model, local_files_only=True, **names)
        name = base_model.removeprefix(PRESET)
        if name not in PRESETS:
            known = ", ".join(f"{PRESET}{one}" for one in PRESETS)
            raise RecipeError(f"unknown preset {base_model!r}; known: {known}")
        settings = dict(PRESETS[name])
        return AutoConfig.for_model(settings.pop("model_type"), **settings, **names)

    def load(self, directory: Path) -> LearnerClassifier:
        """Open a version for inference."""
        return LearnerClassifier(self.open(directory), INFERENCE_ROWS)

    def open(self, directory: Path) -> ImageLearner:
        """Open a version for training."""
        return ImageLearner(directory)

    def fit_signals(self, reference: Inputs) -> dict[str, Any]:
        """Return nothing: a picture's signals need no reference."""
        return {}

    def signals(
        self,
        inputs: Inputs,
        state: Mapping[str, Any] | None = None,
        *,
        of_reference: bool = False,  # a picture is compared with none
    ) -> dict[str, NDArray[np.float64]]:
        """Return brightness, contrast, sharpness, ink_share, width, height; NaN if unreadable."""
        rows = [picture_signals(value) for value in inputs]
        table = np.asarray(rows, dtype=np.float64).reshape(len(inputs), len(SIGNALS))
        return {name: table[:, column] for column, name in enumerate(SIGNALS)}
