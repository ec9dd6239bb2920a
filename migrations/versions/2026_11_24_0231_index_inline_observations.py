"""index inline observations, by which retention finds those that hold their inputs themselves."""

import sqlalchemy as sa
from alembic import op

revision = "9b2e71c4d835"
down_revision = "4f0c6e0a91d2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_observations_inline",
            "observations",
            ["received_at"],
            unique=False,
            postgresql_where=sa.text("inputs IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_index("ix_observations_inline", table_name="observations")
