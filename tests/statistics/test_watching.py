"""Does the watch of rows keep its promise, whatever the size of the reference?"""

import numpy as np
import pytest

from app.domain.sequential import Wealth, wager
from workers.statistics.profile import FittedReference

LIMIT = 20_000.0
N_COLUMNS = 9
N_MODELS = 60
N_ROWS = 1000


@pytest.mark.parametrize("n_reference", [60, 120, 300, 1000])
def test_a_quiet_thousand_of_rows_seldom_alarms_however_small_the_reference(
    n_reference: int,
) -> None:
    alarms = 0
    for model in range(N_MODELS):
        draw = np.random.default_rng([17, n_reference, model])
        before, stream = (
            {f"x{i}": draw.lognormal(size=n) for i in range(N_COLUMNS)}
            for n in (n_reference, N_ROWS)
        )
        fitted = FittedReference.of(before)
        bets, _ = fitted.bets(limit=LIMIT)
        steps = fitted.layout.steps(fitted.layout.codes(stream, N_ROWS))
        wealth, _ = wager(bets, Wealth(np.zeros(bets.weights.shape)), steps)
        alarms += wealth.peak >= LIMIT
    assert alarms <= 8, "3 are expected at the promised rate; more than 8 come once in 250 times"
