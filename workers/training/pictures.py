"""What does a model see of a picture, and what can be said of one without a label?"""

import base64
import binascii
import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from workers.training.errors import DataError, RecipeError
from workers.training.files import read_json, write_json

FILE = "preprocessor_config.json"
AUGMENTATIONS: Mapping[str, tuple[float, float, float]] = {
    "none": (0.0, 0.0, 0.0),
    "shift": (0.08, 0.0, 0.0),
    "shift-rotate": (0.08, 12.0, 0.1),
}
"""Largest shift as a share of the side, largest turn in degrees, largest change of scale."""
MAX_PIXELS = 50_000_000
SIGNALS = ("brightness", "contrast", "sharpness", "ink_share", "width", "height")
INK_CONTRAST = 0.25


def decode(value: Any) -> Image.Image:  # JSON
    """Return the picture of a base64 string.

    Raises:
        DataError: it is no picture; says what would work.
    """
    if not isinstance(value, str):
        raise DataError("no picture; send a PNG or JPEG file as a base64 string")
    try:
        raw = base64.b64decode(value.rsplit(",", 1)[-1], validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(raw), formats=("PNG", "JPEG", "WEBP", "BMP", "GIF"))
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"{picture.width} x {picture.height} is over {MAX_PIXELS} pixels")
            picture.load()
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"the picture cannot be decoded ({type(error).__name__}); send a whole PNG or JPEG "
            "file as a base64 string"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the picture is over {MAX_PIXELS} pixels; send a smaller one") from error
    return picture


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes numbers: the keys of preprocessor_config.json.

    Attributes:
        size: (height, width) in pixels.
        resample: Pillow's number of the filter.
    """

    n_channels: int
    size: tuple[int, int]
    resample: int
    rescale_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width)."""
        return (self.n_channels, *self.size)

    @classmethod
    def read(cls, directory: Path) -> "Preprocessing":
        """Read a version's preprocessing.

        Raises:
            RecipeError: it asks for steps that are not done here.
        """
        config = read_json(directory / "config.json") or {}
        stated = read_json(directory / FILE)
        if not isinstance(stated, dict):
            raise RecipeError(f"the version has no {FILE}")
        size: Any = stated.get("size")
        is_plain = isinstance(size, dict) and {"height", "width"} <= size.keys()
        if not is_plain or stated.get("do_center_crop") or not stated.get("do_resize", True):
            raise RecipeError(
                f"{FILE} must resize to a fixed height and width, without a crop; retrain from "
                "this model as a base, or write size as height and width"
            )
        return cls._from(
            stated, int(config.get("num_channels", 3)), (size["height"], size["width"])
        )

    @classmethod
    def suited(cls, config: Any, stated: Any, *, default_size: int) -> "Preprocessing":
        """Return the preprocessing of a new version: the base's own where it states one.

        A base that keeps the aspect and crops gets a plain resize to the same size instead.
        """
        n_channels = int(getattr(config, "num_channels", 3))
        values = stated if isinstance(stated, dict) else {}
        size = values.get("size") or getattr(config, "image_size", None) or default_size
        if isinstance(size, (int, float)):
            size = {"height": size, "width": size}
        if isinstance(size, (list, tuple)):
            size = {"height": size[0], "width": size[1]}
        edge = size.get("shortest_edge", default_size)
        height, width = size.get("height", edge), size.get("width", edge)
        return cls._from(values, n_channels, (int(height), int(width)))

    @classmethod
    def _from(
        cls, stated: Mapping[str, Any], n_channels: int, size: tuple[int, int]
    ) -> "Preprocessing":
        is_normalised = stated.get("do_normalize", True)
        mean = stated.get("image_mean", 0.5) if is_normalised else 0.0
        std = stated.get("image_std", 0.5) if is_normalised else 1.0
        scale = (
            float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0
        )
        return cls(
            n_channels=n_channels,
            size=(int(size[0]), int(size[1])),
            resample=int(stated.get("resample") or Image.Resampling.BILINEAR),
            rescale_factor=scale,
            mean=_per_channel(mean, n_channels),
            std=_per_channel(std, n_channels),
        )

    def write(self, directory: Path) -> None:
        """Write preprocessor_config.json, as transformers reads it too."""
        write_json(
            directory / FILE,
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": True,
                "size": {"height": self.size[0], "width": self.size[1]},
                "resample": self.resample,
                "do_rescale": True,
                "rescale_factor": self.rescale_factor,
                "do_normalize": True,
                "image_mean": list(self.mean),
                "image_std": list(self.std),
                "do_convert_rgb": self.n_channels == 3,
            },
        )

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return the resized picture, shape (channels, height, width)."""
        converted = picture.convert("L" if self.n_channels == 1 else "RGB")
        height, width = self.size
        if converted.size != (width, height):
            converted = converted.resize((width, height), Image.Resampling(self.resample))
        plane = np.asarray(converted, dtype=np.uint8)
        return plane[None] if plane.ndim == 2 else np.ascontiguousarray(plane.transpose(2, 0, 1))

    def normalise(self, pixels: Any) -> Any:  # torch is untyped here
        """Return float pixels (n, channels, height, width) as the model wants them."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, -1, 1, 1)
        return (pixels * self.rescale_factor - mean) / std


def _per_channel(value: Any, n_channels: int) -> tuple[float, ...]:  # JSON
    """Return one number a channel; a gray model takes the mean of three."""
    values = [float(one) for one in value] if isinstance(value, (list, tuple)) else [float(value)]
    if len(values) != n_channels:
        values = [sum(values) / len(values)] * n_channels
    return tuple(values)


def augment(pixels: Any, name: str, draw: np.random.Generator) -> Any:
    """Return randomly shifted, turned and scaled pictures; the edge pixels fill what is left open.

    Args:
        pixels: float, (n, channels, height, width).
        name: a key of AUGMENTATIONS.
        draw: the source of chance.
    """
    shift, degrees, scaling = AUGMENTATIONS[name]
    if not shift and not degrees and not scaling:
        return pixels
    n = len(pixels)
    angle = draw.uniform(-degrees, degrees, n) * math.pi / 180
    scale = 1 + draw.uniform(-scaling, scaling, n)
    table = np.zeros((n, 2, 3), dtype=np.float32)
    table[:, 0, 0] = table[:, 1, 1] = np.cos(angle) * scale
    table[:, 0, 1], table[:, 1, 0] = -np.sin(angle) * scale, np.sin(angle) * scale
    table[:, :, 2] = draw.uniform(-2 * shift, 2 * shift, (n, 2))
    matrix = torch.from_numpy(table).to(pixels.device)
    grid = torch.nn.functional.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def picture_signals(value: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the signals of one input in the order of SIGNALS.

    brightness: mean gray in [0, 1]; contrast: its standard deviation; sharpness: variance of the
    Laplacian; ink_share: share of pixels further than a quarter from the border's median gray;
    width and height in pixels. All NaN if no field is a readable picture.
    """
    for field in value.values():
        try:
            picture = decode(field)
        except DataError:
            continue
        gray = np.asarray(picture.convert("L"), dtype=np.float64) / 255
        padded = np.pad(gray, 1, mode="edge")
        laplacian = (
            padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * gray
        )
        border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
        ink = np.abs(gray - np.median(border)) > INK_CONTRAST
        return (
            float(gray.mean()),
            float(gray.std()),
            float(laplacian.var()),
            float(ink.mean()),
            float(picture.width),
            float(picture.height),
        )
    return (np.nan,) * len(SIGNALS)
