"""A fork server whose runs go wrong in rank 1, as the name of each says; and wait less for it.

python -m tests.integration.faulty_ranks SOCKET PARENT
"""

import os
import signal
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.training import fork_server, ranks, sums
from workers.training.errors import OutOfMemory
from workers.training.loop import Loop

AT_STEP = 4
MOST_ROWS = 4
usual_step, usual_loss = Loop._step, Loop._loss_of


def step(loop: Loop, rows: NDArray[np.int64]) -> float:
    """Take a step, or fail."""
    if loop.ranks.rank == 1 and loop.position.step == AT_STEP:
        if loop.job.run_id == "hangs":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif loop.job.run_id == "crashes":
            raise ZeroDivisionError("a bug")
        elif loop.job.run_id == "cannot":
            raise OutOfMemory("a row of rank 1 does not fit")
    return usual_step(loop, rows)


def loss(loop: Loop, rows: NDArray[np.int64], **options: Any) -> Any:
    """Compute a loss, or have no memory for it."""
    if loop.ranks.rank == 1 and loop.job.run_id == "short" and len(rows) > MOST_ROWS:
        raise MemoryError("made up")
    return usual_loss(loop, rows, **options)


if __name__ == "__main__":
    sums.STEP_TIMEOUT = timedelta(seconds=1)
    ranks.GIVE_WAY_SECONDS = 0.1
    Loop._step, Loop._loss_of = step, loss
    fork_server.main()
