"""Did the memory run out, and into how many parts must a batch be cut to fit?"""

import ctypes
import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Rows = NDArray[np.int64]
Answer = TypeVar("Answer")

SIGNS: Final = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "could not create a primitive",
)
"""In the words of CUDA, of torch on a CPU, of C++, of CUDA's libraries, and of oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of Python, torch or a library means that memory ran out."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    )


def said_of(error: BaseException) -> str:
    """Return an exception's words, or its name where it has none."""
    return str(error).strip() or type(error).__name__


def fewest_rows(model: Any) -> int:  # torch is untyped here
    """Return the fewest rows that a model can learn from at once."""
    normalises = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return 2 if normalises else 1


def cut(rows: Rows, n_parts: int) -> list[Rows]:
    """Return a batch in at most so many parts of like size, in order."""
    return np.array_split(rows, min(n_parts, len(rows)))


def in_parts(
    rows: Rows,
    n_parts: int,
    work: Callable[[Sequence[Rows]], Answer],
    *,
    fewest: int,
    on_shortage: Callable[[int, str], None],
) -> Answer:
    """Do work on a batch, cut into twice as many parts each time that the memory runs out.

    Args:
        rows: the batch.
        n_parts: to begin with.
        work: is given the parts; starts afresh when called again.
        fewest: rows of a part.
        on_shortage: told the parts of the next try, 0 when no more can be made, and what was said.
    """
    most = max(1, len(rows) // fewest)
    while True:
        n_parts = min(n_parts, most)
        try:
            return work(cut(rows, n_parts))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = said_of(error)
        release()  # only here, where nothing holds the graph any more
        on_shortage(min(2 * n_parts, most) if n_parts < most else 0, said)
        n_parts *= 2


def release() -> None:
    """Give back what a failed try still holds, to the system too."""
    gc.collect()
    with suppress(AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
