"""How does a picture travel in JSON, and how is it read again? Needs the `[predict]` extra."""

import base64
import binascii
import io
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
MAXIMUM_PIXELS: Final = 50_000_000
WANTED: Final = f"pass a whole PNG or JPEG file of at most {MAXIMUM_PIXELS} pixels"

Picture = Image.Image | NDArray[Any] | bytes | str
"""A Pillow image, a uint8 array (height, width[, 3]), a file's bytes, or those in base64."""


def encode(picture: Picture) -> str:
    """Return a picture as a PNG file in base64, the form that inputs carry.

    Base64 is passed on as it is, and so are the bytes of a PNG file.

    Raises:
        ValueError: it is no picture; says what would work.
    """
    if isinstance(picture, str):
        return picture
    if isinstance(picture, bytes) and picture.startswith(PNG_SIGNATURE):
        return base64.b64encode(picture).decode()
    image = decode(picture)
    file = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def encoded(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input as JSON has it: pictures encoded, embeddings as lists, the rest as it is.

    An array of one dimension is an embedding; NaN is a missing value.

    Raises:
        ValueError: a value is an array or bytes, but neither picture nor embedding.
    """
    return {name: _encoded(value) for name, value in inputs.items()}


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fiu":
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return encode(value) if isinstance(value, Image.Image | np.ndarray | bytes) else value


def decode(picture: Picture) -> Image.Image:
    """Return a picture, its pixels read.

    Raises:
        ValueError: it is no picture; says what would work.
    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    return _from_file(picture)


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    is_gray = pixels.ndim == 2
    is_colour = pixels.ndim == 3 and pixels.shape[2] in {3, 4}
    if pixels.dtype != np.uint8 or not (is_gray or is_colour) or not pixels.size:
        raise ValueError(
            f"an array of {pixels.dtype} with shape {pixels.shape} is no picture; pass uint8 with "
            "shape (height, width) or (height, width, 3)"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _from_file(source: bytes | str) -> Image.Image:
    try:
        if isinstance(source, str):
            source = base64.b64decode(source.rsplit(",", 1)[-1], validate=True)
        picture = Image.open(io.BytesIO(source), formats=FORMATS)
        is_small = picture.width * picture.height <= MAXIMUM_PIXELS
        if is_small:
            picture.load()
    except (
        binascii.Error,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise ValueError(f"the picture cannot be read ({error}); {WANTED}") from error
    if not is_small:
        raise ValueError(f"the picture has {picture.width} x {picture.height} pixels; {WANTED}")
    return picture
