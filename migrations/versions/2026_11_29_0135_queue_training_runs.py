"""queue training runs."""

import sqlalchemy as sa
from alembic import op

revision = "b7d2e94a1c60"
down_revision = "7be1f0c6a942"
branch_labels = None
depends_on = None

IN_FLIGHT = "state IN ('queued', 'running', 'trained')"


def upgrade() -> None:
    zero = sa.text("0")
    op.add_column(
        "training_runs", sa.Column("priority", sa.Integer(), server_default=zero, nullable=False)
    )
    op.add_column(
        "training_runs", sa.Column("slot", sa.Integer(), server_default=zero, nullable=False)
    )
    op.add_column("training_runs", sa.Column("device", sa.Text(), nullable=True))
    op.create_index(
        "uq_training_runs_slot",
        "training_runs",
        ["model_id", "slot"],
        unique=True,
        postgresql_where=sa.text(IN_FLIGHT),
    )
    op.drop_index("uq_training_runs_in_flight", "training_runs")
    op.create_index(
        "uq_training_runs_device",
        "training_runs",
        ["device"],
        unique=True,
        postgresql_where=sa.text("state = 'running' AND device IS NOT NULL"),
    )


def downgrade() -> None:
    op.execute(
        "UPDATE training_runs SET state = 'cancelled', finished_at = now(), lease_owner = NULL,"
        " lease_expires_at = NULL, fencing_token = fencing_token + 1"
        " WHERE slot > 0 AND state IN ('queued', 'running', 'trained')"
    )
    op.drop_index("uq_training_runs_device", "training_runs")
    op.create_index(
        "uq_training_runs_in_flight",
        "training_runs",
        ["model_id"],
        unique=True,
        postgresql_where=sa.text(IN_FLIGHT),
    )
    op.drop_index("uq_training_runs_slot", "training_runs")
    op.drop_column("training_runs", "device")
    op.drop_column("training_runs", "slot")
    op.drop_column("training_runs", "priority")
