"""Reference profiles, and windows as counts."""

from uuid import UUID

from sqlalchemy import delete, func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.adapters.postgres.schema import ReferenceProfileRow, WindowBlockRow
from app.domain.identity import canonical_json
from app.domain.reference import ReferenceProfile
from app.domain.windows import Block, WindowCounts
from app.services.ports import Json


class PostgresProfiles:
    """Keeps `app.services.ports.Profiles`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, version_id: UUID, *, reference: UUID) -> ReferenceProfile | None:
        """Return the profile of a version; None if it was fitted to another reference, or never."""
        row = self._session.get(ReferenceProfileRow, version_id)
        if row is None or row.reference_id != reference:
            return None
        return ReferenceProfile.read(row.document, row.arrays)

    def keep(self, version_id: UUID, profile: ReferenceProfile, *, reference: UUID) -> None:
        """Keep the profile of a version; one of another reference goes, and its window with it."""
        values = {
            "reference_id": reference,
            "document": profile.document(),
            "arrays": profile.arrays(),
            "created_at": func.now(),
        }
        self._session.execute(
            upsert(ReferenceProfileRow)
            .values(version_id=version_id, **values)
            .on_conflict_do_update(index_elements=["version_id"], set_=values)
        )
        self.clear_window(version_id)

    def clear_window(self, version_id: UUID) -> None:
        """Forget what a version saw."""
        self._session.execute(delete(WindowBlockRow).where(WindowBlockRow.version_id == version_id))

    def described(self, version_id: UUID) -> Json | None:
        """Return what a kept profile says, for a reader; None where there is none."""
        row = self._session.get(ReferenceProfileRow, version_id)
        if row is None:
            return None
        return {
            "reference": row.reference_id,
            "document": row.document,
            "size_bytes": len(row.arrays) + len(canonical_json(row.document)),
            "created_at": row.created_at,
        }

    def window(self, version_id: UUID, *, window_rows: int) -> WindowCounts:
        """Return what a version saw up to its last report, in a window of that size."""
        rows = self._session.scalars(
            select(WindowBlockRow)
            .where(WindowBlockRow.version_id == version_id)
            .order_by(WindowBlockRow.first_sequence)
        ).all()
        if not rows:
            return WindowCounts(window_rows)
        blocks = tuple(
            Block.read(
                row.body,
                first=row.first_sequence,
                last=row.last_sequence,
                n_rows=row.n_rows,
                first_at=row.first_at,
                last_at=row.last_at,
            )
            for row in rows
        )
        return WindowCounts(rows[-1].window_rows, blocks).cut_to(window_rows)

    def keep_window(self, version_id: UUID, window: WindowCounts) -> None:
        """Store the blocks that are new, and delete those that left."""
        places = (
            WindowBlockRow.first_sequence,
            WindowBlockRow.last_sequence,
            WindowBlockRow.window_rows,
        )
        own = WindowBlockRow.version_id == version_id
        wanted = {(b.first, b.last, window.window_rows): b for b in window.blocks}
        kept = {tuple(row) for row in self._session.execute(select(*places).where(own))}
        gone = kept - wanted.keys()
        if gone:
            self._session.execute(delete(WindowBlockRow).where(own, tuple_(*places).in_(gone)))
        values = [
            {
                "version_id": version_id,
                "first_sequence": block.first,
                "last_sequence": block.last,
                "window_rows": window.window_rows,
                "n_rows": block.n_rows,
                "first_at": block.first_at,
                "last_at": block.last_at,
                "body": block.body(),
            }
            for place, block in wanted.items()
            if place not in kept
        ]
        if values:
            self._session.execute(insert(WindowBlockRow), values)
