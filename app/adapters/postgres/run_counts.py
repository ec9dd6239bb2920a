"""What the metrics tell of runs, counted over all models."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.services.ports import Json

_USED: Final = text("""
SELECT r.usage, r.outcome, v.id AS version_id
FROM training_runs r LEFT JOIN model_versions v ON v.run_id = r.id
WHERE r.model_id = :model_id AND r.attempt > 0 ORDER BY r.id
""")
_PROGRESS: Final = text("""
SELECT DISTINCT ON (m.name) m.name AS model, r.progress
FROM training_runs r JOIN models m ON m.id = r.model_id
WHERE r.state = 'running' AND r.progress IS NOT NULL
ORDER BY m.name, r.started_at DESC
""")
_OLDEST_WAITS: Final = text("""
SELECT m.name AS model, extract(epoch FROM now() - min(r.queued_at))::float AS seconds
FROM training_runs r JOIN models m ON m.id = r.model_id
WHERE r.state = 'queued' GROUP BY m.name
""")
_OUTCOMES: Final = text("""
SELECT m.name AS model, coalesce(r.outcome, r.state) AS outcome, count(*) AS n
FROM training_runs r JOIN models m ON m.id = r.model_id
WHERE r.finished_at IS NOT NULL GROUP BY 1, 2
""")
_DURATIONS: Final = text("""
SELECT m.name AS model, coalesce(r.outcome, r.state) AS outcome,
       width_bucket(t.seconds, CAST(:ends AS float[])) AS bucket,
       count(*) AS n, sum(t.seconds) AS seconds
FROM training_runs r JOIN models m ON m.id = r.model_id
CROSS JOIN LATERAL (SELECT extract(epoch FROM r.finished_at - r.started_at)::float AS seconds) t
WHERE r.finished_at IS NOT NULL AND r.started_at IS NOT NULL GROUP BY 1, 2, 3
""")
_WAITS: Final = text("""
SELECT m.name AS model, width_bucket(t.seconds, CAST(:ends AS float[])) AS bucket,
       count(*) AS n, sum(t.seconds) AS seconds
FROM training_runs r JOIN models m ON m.id = r.model_id
CROSS JOIN LATERAL (SELECT extract(epoch FROM r.started_at - r.queued_at)::float AS seconds) t
WHERE r.started_at IS NOT NULL GROUP BY 1, 2
""")


class RunCounts:
    """The part of the runs' repository that counts."""

    _session: Session

    def used(self, model_id: UUID) -> Sequence[Json]:
        """Return what each run of a model that was started took, and what came of it."""
        return self._all(_USED, model_id=model_id)

    def progress_by_model(self) -> Sequence[Json]:
        """Return the progress of each model's newest run in training."""
        return self._all(_PROGRESS)

    def oldest_waits(self) -> Sequence[Json]:
        """Return for each model that has one how long its oldest queued run has waited."""
        return self._all(_OLDEST_WAITS)

    def outcomes(self) -> Sequence[Json]:
        """Return how many runs of each model ended in each way."""
        return self._all(_OUTCOMES)

    def durations(self, ends: Sequence[float]) -> Sequence[Json]:
        """Return counts and sums of what ended runs took, by model, outcome and bucket from 0."""
        return self._all(_DURATIONS, ends=list(ends))

    def waits(self, ends: Sequence[float]) -> Sequence[Json]:
        """Return counts and sums of how long runs waited, by model and bucket from 0."""
        return self._all(_WAITS, ends=list(ends))

    def _all(self, query: Any, **parameters: Any) -> Sequence[Json]:
        return [dict(row._mapping) for row in self._session.execute(query, parameters)]
