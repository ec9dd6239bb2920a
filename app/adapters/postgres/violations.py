"""How often, where and how rows broke the input contract, hour by hour."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import ContractViolationRow as Violation
from app.adapters.postgres.schema import ModelRow
from app.services.ports import Json, Listed, Page


def count(session: Session, model_id: UUID, found: Mapping[tuple[str, str], int]) -> None:
    """Add to the counts of this hour, by field and kind; in a fixed order, lest writers lock up."""
    if not found:
        return
    hour = func.date_trunc("hour", func.now())
    values = [
        {"model_id": model_id, "hour": hour, "field": field, "kind": kind, "n": n}
        for (field, kind), n in sorted(found.items())
    ]
    statement = insert(Violation).values(values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["model_id", "hour", "field", "kind"],
            set_={"n": Violation.n + statement.excluded.n},
        )
    )


def listed(session: Session, model_id: UUID, page: Page) -> Listed:
    """Return the counts, newest hour first."""
    query = select(Violation).where(Violation.model_id == model_id)

    def render(row: Violation) -> Json:
        return {"hour": row.hour, "field": row.field, "kind": row.kind, "n": row.n}

    return page_of(session, query, page, (Violation.hour, Violation.field, Violation.kind), render)


def totals(session: Session) -> Sequence[Json]:
    """Return the counts of all hours together, by model, field and kind."""
    query = (
        select(ModelRow.name, Violation.field, Violation.kind, func.sum(Violation.n).label("n"))
        .join(ModelRow, ModelRow.id == Violation.model_id)
        .group_by(ModelRow.name, Violation.field, Violation.kind)
    )
    return [dict(row._mapping) for row in session.execute(query)]
