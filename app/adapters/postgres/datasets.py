"""Sets of examples that were uploaded or set aside."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import DatasetRow
from app.domain.errors import NotFound
from app.services.documents import document
from app.services.ports import Dataset, Listed, Page


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset(
        row.id, row.model_id, row.role, row.sha256, row.size_bytes, row.n_rows, row.created_at
    )


class PostgresDatasets:
    """Keeps `app.services.ports.Datasets`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, dataset: Dataset) -> None:
        values = {
            "id": dataset.id,
            "model_id": dataset.model_id,
            "role": dataset.role,
            "sha256": dataset.sha256,
            "size_bytes": dataset.size_bytes,
            "n_rows": dataset.n_rows,
            "created_at": dataset.created_at,
        }
        self._session.execute(insert(DatasetRow).values(**values))

    def get(self, dataset_id: UUID, model_id: UUID) -> Dataset:
        row = self._session.get(DatasetRow, dataset_id)
        if row is None or row.model_id != model_id:
            raise NotFound(f"there is no dataset {dataset_id}; upload one first")
        return _dataset(row)

    def of(
        self, model_id: UUID, role: str, *, through: datetime | None = None
    ) -> Sequence[Dataset]:
        query = select(DatasetRow).where(DatasetRow.model_id == model_id, DatasetRow.role == role)
        if through is not None:
            query = query.where(DatasetRow.created_at <= through)
        return [_dataset(row) for row in self._session.scalars(query.order_by(DatasetRow.id))]

    def listed(self, model_id: UUID, page: Page) -> Listed:
        query = select(DatasetRow).where(DatasetRow.model_id == model_id)
        return page_of(
            self._session, query, page, (DatasetRow.id,), lambda row: document(_dataset(row))
        )
