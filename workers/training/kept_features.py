"""What do a version's layers say of rows? Kept with the run that made it, for the run after it.

Where the head alone is fitted anew, the layers below it stand still, and what they say of a row
that they have seen before need not be computed again.
"""

from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from app.services.examples import input_hash
from workers.training.data import Rows
from workers.training.files import flush

Features = NDArray[np.float32]
Places = NDArray[np.int64]
Digests = NDArray[np.void]

DIGEST_BYTES: Final = 16
LARGEST_GAP: Final = 0.01
"""Share of the rows' variance by which kept features may be wrong; bf16 and fp16 stay far below."""


def digests_of(rows: Rows, chosen: Places) -> Digests:
    """Return by what the inputs of chosen rows are recognised, shape (m,); chosen in order."""
    is_chosen = np.zeros(len(rows), dtype=bool)
    is_chosen[chosen] = True
    found = bytearray()
    for inputs in compress(rows.inputs, is_chosen):
        found += bytes.fromhex(input_hash(inputs))[:DIGEST_BYTES]
    return np.frombuffer(bytes(found), dtype=f"V{DIGEST_BYTES}")


@dataclass(frozen=True, slots=True)
class KeptFeatures:
    """Features of rows, by the digests of their inputs.

    Attributes:
        digests: sorted, each once, shape (n,).
        values: what the head is given of each, half precision, shape (n, d).
    """

    digests: Digests
    values: NDArray[np.float16]

    @classmethod
    def of(cls, digests: Digests, features: Features) -> Self | None:
        """Return features, (n, d), to be kept; None where half precision cannot hold them."""
        with np.errstate(over="ignore"):
            values = features.astype(np.float16)
        if not np.isfinite(values).all():
            return None
        once, first = np.unique(digests, return_index=True)
        return cls(once, values[first])

    def __len__(self) -> int:
        return len(self.digests)

    def write(self, path: Path) -> None:
        """Write them to a file.

        Raises:
            OSError: there is no room.
        """
        digests = np.frombuffer(self.digests.tobytes(), dtype=np.uint8)
        table = digests.reshape(-1, DIGEST_BYTES)
        path.write_bytes(save({"digests": table, "values": np.ascontiguousarray(self.values)}))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what `write` wrote; None where it is absent or something else."""
        try:
            found = load_file(path)
            digests, values = found["digests"], found["values"]
        except (OSError, KeyError, SafetensorError):
            return None
        is_sound = digests.dtype == np.uint8 and values.dtype == np.float16 and values.ndim == 2
        if not is_sound or digests.shape != (len(values), DIGEST_BYTES):
            return None
        return cls(np.frombuffer(digests.tobytes(), dtype=f"V{DIGEST_BYTES}"), values)

    def places(self, digests: Digests) -> Places:
        """Return where each of some digests, (m,), is; -1 where it is not. Shape (m,)."""
        if not len(self):
            return np.full(len(digests), -1)
        near = np.minimum(np.searchsorted(self.digests, digests), len(self) - 1)
        return np.where(self.digests[near] == digests, near, -1)


def agree(kept: NDArray[np.float16], fresh: Features) -> bool:
    """Return whether kept features of some rows, (n, d), are what the layers say of them now."""
    if kept.shape != fresh.shape:
        return False
    gap = np.square(kept.astype(np.float32) - fresh).sum()
    spread = np.square(fresh - fresh.mean(axis=0)).sum()
    return bool(gap <= LARGEST_GAP * spread)


def leave(features: KeptFeatures | None, place: Path) -> bool:
    """Write features, if there are any and there is room; return whether they lie there.

    A version is whole without: what cannot be written is left out.
    """
    place.unlink(missing_ok=True)
    if features is None:
        return False
    try:
        features.write(place)
        flush(place)
    except OSError:
        place.unlink(missing_ok=True)
        return False
    return True
