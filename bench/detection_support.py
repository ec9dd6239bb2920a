"""What the measurements of detection share: a finding as a check makes it, and its rates."""

from typing import Any, Final

import workers.detectors
from app.domain.registry import scan
from bench.detection_data import Table
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window

scan(workers.detectors)
FDR: Final = 0.05
FALSE_ALARM_ROWS: Final = 10_000.0


def by_kind(table: Table) -> dict[str, Table]:
    """Return a table's columns as a check sees them."""
    return {
        "numeric": {name: v for name, v in table.items() if v.dtype != object},
        "categorical": {name: v for name, v in table.items() if v.dtype == object},
    }


def found(reference: Table, current: Table) -> list[Any]:
    """Return the scores of a window with the default detectors."""
    return measure_window(by_kind(reference), by_kind(current), DEFAULTS, fdr=FDR, seed=0)
