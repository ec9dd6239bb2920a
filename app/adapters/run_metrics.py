"""What Prometheus scrapes of training runs: those under way, the queue, and those that ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from app.services import queueing
from app.services.ports import Json, UnitOfWork

SECONDS: Final = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
"""Upper ends of the buckets."""


class StoredHistogram(Collector):
    """A histogram that is counted in Postgres, so that every API process tells the same."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._name = name
        self._meaning = meaning
        self._labelnames = tuple(labels)
        self._rows: Mapping[tuple[str, ...], tuple[Sequence[int], float]] = {}
        REGISTRY.register(self)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Return the family without its counts."""
        return [HistogramMetricFamily(self._name, self._meaning, labels=self._labelnames)]

    def show(self, rows: Mapping[tuple[str, ...], tuple[Sequence[int], float]]) -> None:
        """Take counts by bucket, the last one open-ended, and the sum, by values of the labels."""
        self._rows = rows

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return what was shown last, counts added up from bucket to bucket."""
        (family,) = self.describe()
        for values, (counts, total) in self._rows.items():
            ends = [*(str(float(end)) for end in SECONDS), "+Inf"]
            added = [sum(counts[: place + 1]) for place in range(len(counts))]
            family.add_metric(values, list(zip(ends, added, strict=True)), total)
        return [family]


steps = Gauge("upkeep_training_run_steps", "Steps done by the run in training.", ["model"])
total_steps = Gauge("upkeep_training_run_total_steps", "Steps that it will take.", ["model"])
loss = Gauge("upkeep_training_run_loss", "Its smoothed loss.", ["model"])
rows_per_second = Gauge("upkeep_training_run_rows_per_second", "Rows learned a second.", ["model"])
utilisation = Gauge(
    "upkeep_training_run_utilisation_ratio", "Share of the machine's peak that it uses.", ["model"]
)
eta = Gauge("upkeep_training_run_eta_seconds", "Until its last step.", ["model"])
memory = Gauge("upkeep_training_run_memory_bytes", "Resident memory of its process.", ["model"])
outcomes = Gauge(
    "upkeep_training_run_outcomes",
    "Ended runs by outcome: promoted, rejected, failed or cancelled.",
    ["model", "outcome"],
)
oldest_wait = Gauge(
    "upkeep_training_queue_age_seconds", "How long the oldest queued run has waited.", ["model"]
)
slots = Gauge("upkeep_training_slots", "Runs that the living workers can train at once.")
durations = StoredHistogram(
    "upkeep_training_run_duration_seconds",
    "From the first start of a run to its end.",
    ["model", "outcome"],
)
waits = StoredHistogram(
    "upkeep_training_queue_wait_seconds", "From the request of a run to its start.", ["model"]
)

_OF_PROGRESS: Final = {
    "step": steps,
    "total_steps": total_steps,
    "loss": loss,
    "rows_per_second": rows_per_second,
    "utilisation": utilisation,
    "eta_seconds": eta,
    "memory_bytes": memory,
}


def refresh(work: UnitOfWork) -> None:
    """Set everything from the database, in an open transaction; what has ended is gone."""
    for gauge in (*_OF_PROGRESS.values(), outcomes, oldest_wait):
        gauge.clear()
    slots.set(queueing.n_slots(work))
    for run in work.runs.progress_by_model():
        for name, gauge in _OF_PROGRESS.items():
            value = run["progress"].get(name)
            if isinstance(value, int | float):
                gauge.labels(run["model"]).set(value)
    for queued in work.runs.oldest_waits():
        oldest_wait.labels(queued["model"]).set(queued["seconds"])
    for ended in work.runs.outcomes():
        outcomes.labels(ended["model"], ended["outcome"]).set(ended["n"])
    durations.show(_counted(work.runs.durations(SECONDS), "model", "outcome"))
    waits.show(_counted(work.runs.waits(SECONDS), "model"))


def _counted(
    rows: Iterable[Json], *labels: str
) -> Mapping[tuple[str, ...], tuple[Sequence[int], float]]:
    found: dict[tuple[str, ...], tuple[list[int], float]] = {}
    for row in rows:
        key = tuple(str(row[label]) for label in labels)
        counts, total = found.get(key, ([0] * (len(SECONDS) + 1), 0.0))
        counts[row["bucket"]] += row["n"]
        found[key] = (counts, total + row["seconds"])
    return found
