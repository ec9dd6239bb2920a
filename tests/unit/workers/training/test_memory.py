"""A batch is cut until it fits, and never lost or done twice."""

import numpy as np
import pytest
import torch
from torch import nn

from workers.training.memory import fewest_rows, in_parts, is_out_of_memory

ROWS = np.arange(10)


def work_that_holds(most: int, done: list[list[int]]):  # type: ignore[no-untyped-def]  # a closure
    def work(parts: list[np.ndarray]) -> int:
        done.clear()
        for part in parts:
            if len(part) > most:
                raise MemoryError("no room")
            done.append(part.tolist())
        return len(parts)

    return work


def test_a_batch_is_halved_until_it_fits() -> None:
    done: list[list[int]] = []
    told: list[tuple[int, str]] = []

    n = in_parts(
        ROWS,
        1,
        work_that_holds(3, done),
        fewest=1,
        on_shortage=lambda parts, said: told.append((parts, said)),
    )

    assert n == 4
    assert [row for part in done for row in part] == ROWS.tolist()
    assert told == [(2, "no room"), (4, "no room")]


@pytest.mark.parametrize(("fewest", "most"), [(1, 10), (2, 5)])
def test_a_single_row_that_does_not_fit_is_told(fewest: int, most: int) -> None:
    told: list[int] = []

    def give_up(parts: int, said: str) -> None:
        told.append(parts)
        if not parts:
            raise EOFError(said)

    with pytest.raises(EOFError):
        in_parts(ROWS, 1, work_that_holds(0, []), fewest=fewest, on_shortage=give_up)
    assert told[-2:] == [most, 0]


def test_what_is_no_shortage_is_raised_at_once() -> None:
    def work(parts: list[np.ndarray]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_parts(ROWS, 1, work, fewest=1, on_shortage=lambda parts, said: None)


@pytest.mark.parametrize(
    ("error", "is_shortage"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("out of memory"), False),
    ],
)
def test_a_shortage_is_known_by_its_type_or_words(error: Exception, is_shortage: bool) -> None:
    assert is_out_of_memory(error) == is_shortage


def test_batch_normalisation_needs_two_rows() -> None:
    assert fewest_rows(nn.Sequential(nn.Linear(2, 2))) == 1
    assert fewest_rows(nn.Sequential(nn.BatchNorm2d(2))) == 2
