"""Small data that a small model can learn: patterns for eyes and for words."""

import base64
import io
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

LABELS = ("across", "down")
FAST = {"epochs": 10, "batch_size": 32, "augmentation": "none", "precision": "fp32"}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


def picture(generator: np.random.Generator, label: str, *, inverted: bool = False) -> str:
    """Return an 8 x 8 PNG (base64): bright stripes on dark, across or down, or a bright middle."""
    pixels = generator.integers(0, 60, (8, 8), dtype=np.uint8)
    if label == "framed":
        pixels[1:-1, 1:-1] += 150
    else:
        lines = pixels if label == "across" else pixels.T
        lines[generator.integers(0, 2) :: 2] += 150
    sink = io.BytesIO()
    Image.fromarray(255 - pixels if inverted else pixels).save(sink, format="PNG")
    return base64.b64encode(sink.getvalue()).decode()


def framed(n: int, seed: int) -> list[dict[str, Any]]:
    """Return n pictures of a kind that is neither across nor down."""
    generator = np.random.default_rng(seed)
    return [
        {"inputs": {"image": picture(generator, "framed")}, "label": "framed"} for _ in range(n)
    ]


def pictures(n: int, seed: int, *, swapped: bool = False) -> list[dict[str, Any]]:
    """Return n labelled pictures; `swapped` ones are inverted and mean the opposite."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        label = LABELS[index % 2]
        shown = LABELS[1 - index % 2] if swapped else label
        rows.append(
            {"inputs": {"image": picture(generator, shown, inverted=swapped)}, "label": label}
        )
    return rows
