"""Labelled rows for the tour: handwritten digits of 8 x 8 pixels, one JSON object a line.

    python docs/tour_rows.py training            1000 labelled rows, for a first model
    python docs/tour_rows.py labels 1000 1300    true labels of later rows, by their ids

The digits are scikit-learn's copy of the UCI set, in a fixed random order.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

N_TRAINING: Final = 1000


def digits(first: int, last: int) -> Iterator[tuple[str, NDArray[np.uint8], str]]:
    """Yield id, picture (8, 8) and true label of the rows from `first` up to `last`."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    for row in order[first:last]:
        picture = np.rint(bunch.images[row] * (255 / 16)).astype(np.uint8)
        yield f"scan-{row}", picture, str(bunch.target[row])


def training() -> Iterator[dict[str, Any]]:
    """Yield labelled rows; a picture is nested lists of bytes here, base64 PNG would do too."""
    for id_, picture, label in digits(0, N_TRAINING):
        yield {"id": id_, "image": picture.tolist(), "label": label}


def labels(first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield true labels by the ids of the observations, as they come hours or weeks later."""
    for id_, _, label in digits(first, last):
        yield {"id": id_, "label": label}


def main() -> None:
    """Write the rows that were asked for."""
    parser = argparse.ArgumentParser(description="Labelled rows for the tour.")
    parser.add_argument("what", choices=["training", "labels"])
    parser.add_argument("first", type=int, nargs="?", default=N_TRAINING)
    parser.add_argument("last", type=int, nargs="?", default=N_TRAINING + 300)
    args = parser.parse_args()
    rows = training() if args.what == "training" else labels(args.first, args.last)
    sys.stdout.writelines(f"{json.dumps(row)}\n" for row in rows)


if __name__ == "__main__":
    main()
