"""keep estimates in drift reports."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "5c0d9e7a41b6"
down_revision = "5d0c93e7a1f4"
branch_labels = None
depends_on = None

COLUMNS = ("estimate", "slices")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column(
            "drift_reports",
            sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        )


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("drift_reports", name)
