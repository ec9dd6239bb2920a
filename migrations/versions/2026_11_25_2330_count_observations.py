"""count observations."""

import sqlalchemy as sa
from alembic import op

revision = "5d0c3f8e12b7"
down_revision = "c41d7a90e2b6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "observation_counts",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("n_observations", sa.BigInteger(), nullable=False),
        sa.Column("n_labels", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name="pk_observation_counts"),
    )
    op.execute(
        "INSERT INTO observation_counts (model_id, n_observations, n_labels)"
        " SELECT model_id, count(*), count(label_sequence) FROM observations GROUP BY model_id"
    )


def downgrade() -> None:
    op.drop_table("observation_counts")
