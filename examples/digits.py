"""What comes in: handwritten digits, quiet at first, then from a scanner that somebody changed."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from upkeep.images import encode

LABELS: Final = tuple("0123456789")
N_TRAINING: Final = 600
N_QUIET: Final = 3
N_DRIFTED: Final = 5
N_EACH: Final = 149
"""Rows of a slice: with the training rows they use 1,792 of the 1,797 pictures, none twice."""
SIDE_PIXELS: Final = 16


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a changed scanner distorts, for each unit of its strength; strength 0 changes nothing.

    Attributes:
        turn_degrees: the page lies askew.
        blur_pixels: the lens is out of focus.
        ink_share: so much of the ink's contrast is lost.
        paper_share: so much brighter the black background becomes.
    """

    strength: float
    turn_degrees: float = 25.0
    blur_pixels: float = 0.8
    ink_share: float = 0.3
    paper_share: float = 0.15

    def scan(self, picture: Image.Image) -> Image.Image:
        """Return a picture as this scanner would have taken it."""
        if not self.strength:
            return picture
        turned = picture.rotate(-self.turn_degrees * self.strength, Image.Resampling.BICUBIC)
        blurred = turned.filter(ImageFilter.GaussianBlur(self.blur_pixels * self.strength))
        gray = np.asarray(blurred, dtype=np.float64)
        inked = gray * (1 - self.ink_share * self.strength) + 255 * self.paper_share * self.strength
        return Image.fromarray(inked.clip(0, 255).round().astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Slice:
    """Pictures that arrive together; their labels come when the next slice opens."""

    number: int
    is_drifted: bool
    ids: list[str]
    pictures: list[Image.Image]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Stream:
    """One play: what the first version learns from, and then slice after slice."""

    strength: float
    training: list[dict[str, Any]]
    slices: list[Slice]
    before: list[Image.Image]
    """A few pictures as the first scanner takes them ..."""
    after: list[Image.Image]
    """... and the same ones as the changed scanner does."""


def digits_stream(seed: int, strength: float) -> Stream:
    """Return scikit-learn's 8x8 digits in a random order, the later slices drifted.

    Args:
        seed: of the order.
        strength: of the change of the scanner; 0 for none, 1 for a bad one.
    """
    bundled = load_digits()
    order = np.random.default_rng(seed).permutation(len(bundled.images))
    pictures = [_picture(bundled.images[row]) for row in order]
    labels = [LABELS[bundled.target[row]] for row in order]
    training = [
        {"inputs": {"image": encode(picture)}, "label": label}
        for picture, label in zip(pictures[:N_TRAINING], labels[:N_TRAINING], strict=True)
    ]
    changed = Scanner(strength)
    slices = []
    for number in range(1, N_QUIET + N_DRIFTED + 1):
        start = N_TRAINING + (number - 1) * N_EACH
        rows = range(start, start + N_EACH)
        is_drifted = number > N_QUIET
        slices.append(
            Slice(
                number,
                is_drifted,
                [f"slice-{number}-{row - start}" for row in rows],
                [changed.scan(pictures[row]) if is_drifted else pictures[row] for row in rows],
                [labels[row] for row in rows],
            )
        )
    shown = [labels.index(label) for label in LABELS]
    before = [pictures[row] for row in shown]
    return Stream(strength, training, slices, before, [changed.scan(one) for one in before])


def _picture(ink: Any) -> Image.Image:
    """Return 8x8 numbers of 0 to 16 as a gray picture, white ink on black."""
    gray = Image.fromarray((ink * (255 / 16)).round().astype(np.uint8))
    return gray.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BICUBIC)
