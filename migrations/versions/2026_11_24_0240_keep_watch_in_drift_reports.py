"""keep watch in drift reports."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "3b1f0a6c52d7"
down_revision = "9b2e71c4d835"
branch_labels = None
depends_on = None

INDEX = "ix_drift_reports_version_id_drift_reports_created_at"


def upgrade() -> None:
    op.add_column(
        "drift_reports",
        sa.Column("watch", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    )
    with op.get_context().autocommit_block():
        op.create_index(
            INDEX, "drift_reports", ["version_id", "created_at"], postgresql_concurrently=True
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, table_name="drift_reports", postgresql_concurrently=True)
    op.drop_column("drift_reports", "watch")
