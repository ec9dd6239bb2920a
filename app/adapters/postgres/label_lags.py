"""How old observations are and when their labels came, from a bounded sample of them."""

from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.services.ports import LabelWaits

NEWEST_ROWS: Final = 1000
FURTHER_ROWS: Final = 1000

# Each subquery with LIMIT is one descent of the key by arrival, and `min(received_at)` reads the
# labels of one id: the cost is that of the sample, however many rows there are.
_SAMPLE: Final = text("""
WITH newest AS MATERIALIZED (
  SELECT sequence FROM observations WHERE model_id = :model_id
  ORDER BY sequence DESC LIMIT :n_newest
), ends AS (
  SELECT max(sequence) AS last, max(sequence) - min(sequence) + 1 AS near,
         max(sequence) - (SELECT sequence FROM observations WHERE model_id = :model_id
                          ORDER BY sequence LIMIT 1) AS far
  FROM newest HAVING count(*) = :n_newest
), further AS (
  SELECT DISTINCT o.sequence
  FROM ends, generate_series(0, CAST(:n_further AS int) - 1) AS i, LATERAL
    (SELECT sequence FROM observations
     WHERE model_id = :model_id AND sequence <=
       last - floor(near * power(far::float8 / near, i / (:n_further - 1.0)))::bigint
     ORDER BY sequence DESC LIMIT 1) AS o
  WHERE far >= near
), picked AS (
  SELECT sequence FROM newest UNION SELECT sequence FROM further
)
SELECT o.version,
       extract(epoch FROM CAST(:now AS timestamptz) - o.observed_at)::float8 AS age,
       CASE WHEN o.label_sequence IS NOT NULL THEN extract(epoch FROM
         (SELECT min(l.received_at) FROM labels l
          WHERE l.model_id = :model_id AND l.observation_id = o.id) - o.observed_at)::float8
       END AS lag
FROM picked p, LATERAL
  (SELECT * FROM observations o WHERE o.model_id = :model_id AND o.sequence = p.sequence
   LIMIT 1) AS o
""")


def waits_of(session: Session, model_id: UUID, *, now: datetime) -> LabelWaits:
    """Return the newest rows, and further ones, the sparser the longer ago they arrived."""
    parameters = {
        "model_id": model_id,
        "now": now,
        "n_newest": NEWEST_ROWS,
        "n_further": FURTHER_ROWS,
    }
    rows = session.execute(_SAMPLE, parameters).all()
    return LabelWaits(
        versions=np.array([row.version or 0 for row in rows], dtype=np.int64),
        ages=np.array([row.age for row in rows], dtype=np.float64),
        lags=np.array([np.nan if row.lag is None else row.lag for row in rows], dtype=np.float64),
    )
