"""Model versions, their moves, and the evidence they were judged on."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import (
    EvidenceRow,
    ModelRow,
    ModelVersionRow,
    ReferenceChangeRow,
    VersionTransitionRow,
)
from app.domain.errors import Conflict, NotFound
from app.domain.identity import new_id
from app.domain.states import after
from app.domain.versions import (
    TRANSITIONS,
    ModelFile,
    ModelVersion,
    Origin,
    ReferenceChange,
    Transition,
    VersionEvent,
    VersionState,
)
from app.services.documents import document
from app.services.ports import Json, Listed, Page


class PostgresVersions:
    """Keeps `app.services.ports.Versions`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, version: ModelVersion) -> ModelVersion:
        values: dict[str, Any] = {
            "id": version.id,
            "model_id": version.model_id,
            "number": version.number,
            "state": version.state,
            "origin": version.origin,
            "digest": version.digest,
            "files": document(version.files),
            "metrics": document(version.metrics),
            "accepted": document(version.accepted),
            "reference": version.reference,
            "run_id": version.run_id,
            "parent_id": version.parent_id,
            "snapshot_sha256": version.snapshot_sha256,
            "trained_through": version.trained_through,
            "n_training_rows": version.n_training_rows,
            "adopt": version.adopt,
        }
        try:
            self._session.execute(insert(ModelVersionRow).values(**values))
        except IntegrityError as error:
            raise Conflict(f"version {version.number} of this model exists already") from error
        return self.by_id(version.id)

    def get(self, model_id: UUID, number: int) -> ModelVersion:
        row = self._session.scalar(
            select(ModelVersionRow).where(
                ModelVersionRow.model_id == model_id, ModelVersionRow.number == number
            )
        )
        if row is None:
            raise NotFound(f"this model has no version {number}")
        return _version(row)

    def by_id(self, version_id: UUID) -> ModelVersion:
        row = self._session.get(ModelVersionRow, version_id, populate_existing=True)
        if row is None:
            raise NotFound(f"there is no model version {version_id}")
        return _version(row)

    def of_run(self, run_id: UUID) -> ModelVersion | None:
        row = self._session.scalar(select(ModelVersionRow).where(ModelVersionRow.run_id == run_id))
        return _version(row) if row else None

    def champion(self, model_id: UUID) -> ModelVersion | None:
        row = self._session.scalar(_champion_of(model_id).execution_options(populate_existing=True))
        return _version(row) if row else None

    def lock_champion(self, model_id: UUID) -> ModelVersion | None:
        """Return the champion, held until the transaction ends; promotions take turns on this.

        The model's row is locked, not the champion's: before the first promotion there is no
        champion to lock.
        """
        self._session.execute(select(ModelRow.id).where(ModelRow.id == model_id).with_for_update())
        return self.champion(model_id)

    def served(self, model_id: UUID) -> Sequence[ModelVersion]:
        """Return every version that is or was the champion."""
        crowned = select(VersionTransitionRow.version_id).where(
            VersionTransitionRow.model_id == model_id,
            VersionTransitionRow.state_after == VersionState.CHAMPION,
        )
        rows = self._session.scalars(
            select(ModelVersionRow)
            .where(ModelVersionRow.id.in_(crowned))
            .order_by(ModelVersionRow.number)
        )
        return [_version(row) for row in rows]

    def served_at(self, model_id: UUID, at: datetime) -> Transition | None:
        row = self._session.scalar(
            select(VersionTransitionRow)
            .where(
                VersionTransitionRow.model_id == model_id,
                VersionTransitionRow.at <= at,
                VersionTransitionRow.state_after == VersionState.CHAMPION,
            )
            .order_by(VersionTransitionRow.sequence.desc())
            .limit(1)
        )
        return _transition(row) if row else None

    def next_number(self, model_id: UUID) -> int:
        self._session.execute(select(ModelRow.id).where(ModelRow.id == model_id).with_for_update())
        newest = self._session.scalar(
            select(func.max(ModelVersionRow.number)).where(ModelVersionRow.model_id == model_id)
        )
        return (newest or 0) + 1

    def advance(
        self, version: ModelVersion, event: VersionEvent, *, actor: str, reason: str
    ) -> ModelVersion:
        """Move a version along one edge, in one guarded update, and record the move.

        Raises:
            IllegalTransition: there is no such edge.
            Conflict: it has moved meanwhile, or another version is champion.
        """
        reached = after(TRANSITIONS, "model version", version.state, event)
        try:
            moved = self._session.scalar(
                update(ModelVersionRow)
                .where(ModelVersionRow.id == version.id, ModelVersionRow.state == version.state)
                .values(state=reached, state_since=func.clock_timestamp())
                .returning(ModelVersionRow.id)
            )
        except IntegrityError as error:
            raise Conflict("another version became champion meanwhile; look again") from error
        if moved is None:
            raise Conflict(f"version {version.number} is no longer {version.state}")
        self._session.execute(
            insert(VersionTransitionRow).values(
                model_id=version.model_id,
                version_id=version.id,
                number=version.number,
                event=event,
                state_before=version.state,
                state_after=reached,
                actor=actor,
                reason=reason,
            )
        )
        return self.by_id(version.id)

    def set_accepted(self, version_id: UUID, accepted: Json, metrics: Json) -> None:
        self._session.execute(
            update(ModelVersionRow)
            .where(ModelVersionRow.id == version_id)
            .values(accepted=accepted, metrics=metrics)
        )

    def replace_reference(
        self, version: ModelVersion, dataset_id: UUID, *, actor: str, reason: str
    ) -> None:
        """Compare a version with another dataset from now on, and record the change."""
        self._session.execute(
            update(ModelVersionRow)
            .where(ModelVersionRow.id == version.id)
            .values(reference=dataset_id)
        )
        self._session.execute(
            insert(ReferenceChangeRow).values(
                version_id=version.id,
                before=version.reference,
                after=dataset_id,
                actor=actor,
                reason=reason,
            )
        )

    def reference_changes(self, version_id: UUID) -> Sequence[ReferenceChange]:
        rows = self._session.scalars(
            select(ReferenceChangeRow)
            .where(ReferenceChangeRow.version_id == version_id)
            .order_by(ReferenceChangeRow.sequence)
        )
        return [
            ReferenceChange(row.before, row.after, row.at, row.actor, row.reason) for row in rows
        ]

    def transitions(
        self, model_id: UUID, *, version_id: UUID | None = None
    ) -> Sequence[Transition]:
        query = select(VersionTransitionRow).where(VersionTransitionRow.model_id == model_id)
        if version_id is not None:
            query = query.where(VersionTransitionRow.version_id == version_id)
        rows = self._session.scalars(query.order_by(VersionTransitionRow.sequence))
        return [_transition(row) for row in rows]

    def listed(self, model_id: UUID, page: Page) -> Listed:
        query = select(ModelVersionRow).where(ModelVersionRow.model_id == model_id)
        return page_of(self._session, query, page, (ModelVersionRow.id,), _version)

    def unverified(self, *, resend_seconds: float) -> Sequence[UUID]:
        """Return imported versions that no worker has loaded though it was asked a while ago."""
        return list(
            self._session.scalars(
                select(ModelVersionRow.id)
                .where(
                    ModelVersionRow.state == VersionState.IMPORTED,
                    ModelVersionRow.created_at < func.now() - timedelta(seconds=resend_seconds),
                )
                .with_for_update(skip_locked=True)
            )
        )

    def add_evidence(
        self,
        model_id: UUID,
        challenger_id: UUID,
        champion_id: UUID | None,
        document: Json,
        verdicts: Sequence[Json],
    ) -> None:
        self._session.execute(
            insert(EvidenceRow).values(
                id=new_id(),
                model_id=model_id,
                challenger_id=challenger_id,
                champion_id=champion_id,
                document=document,
                verdicts=list(verdicts),
            )
        )

    def evidence(self, challenger_id: UUID) -> Sequence[Json]:
        rows = self._session.scalars(
            select(EvidenceRow)
            .where(EvidenceRow.challenger_id == challenger_id)
            .order_by(EvidenceRow.id)
        )
        return [
            {
                "champion_id": row.champion_id,
                "evidence": row.document,
                "verdicts": row.verdicts,
                "created_at": row.created_at,
            }
            for row in rows
        ]


def _champion_of(model_id: UUID) -> Any:
    return select(ModelVersionRow).where(
        ModelVersionRow.model_id == model_id, ModelVersionRow.state == VersionState.CHAMPION
    )


def _version(row: ModelVersionRow) -> ModelVersion:
    return ModelVersion(
        id=row.id,
        model_id=row.model_id,
        number=row.number,
        state=VersionState(row.state),
        origin=Origin(row.origin),
        digest=row.digest,
        files=tuple(ModelFile(**item) for item in row.files),
        created_at=row.created_at,
        state_since=row.state_since,
        metrics=row.metrics,
        accepted=row.accepted,
        reference=row.reference,
        run_id=row.run_id,
        parent_id=row.parent_id,
        snapshot_sha256=row.snapshot_sha256,
        trained_through=row.trained_through,
        n_training_rows=row.n_training_rows,
        adopt=row.adopt,
    )


def _transition(row: VersionTransitionRow) -> Transition:
    return Transition(
        version_id=row.version_id,
        number=row.number,
        event=VersionEvent(row.event),
        before=VersionState(row.state_before),
        after=VersionState(row.state_after),
        at=row.at,
        actor=row.actor,
        reason=row.reason,
    )
