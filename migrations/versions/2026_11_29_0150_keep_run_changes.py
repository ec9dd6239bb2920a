"""keep run changes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "c94f1b7d3e28"
down_revision = "b7d2e94a1c60"
branch_labels = None
depends_on = None


def upgrade() -> None:
    zero = sa.text("0")
    for name in ("n_changes", "n_lines"):
        op.add_column(
            "training_runs", sa.Column(name, sa.BigInteger(), server_default=zero, nullable=False)
        )
    op.create_table(
        "run_changes",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.Column("progress", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_runs.id"], name=op.f("fk_run_changes_run_id_training_runs")
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_changes")),
    )
    op.execute(
        "INSERT INTO run_changes (run_id, number, at, what, state, attempt)"
        " SELECT id, 1, coalesce(finished_at, started_at, queued_at), state, state, attempt"
        " FROM training_runs"
    )
    op.execute("UPDATE training_runs SET n_changes = 1")


def downgrade() -> None:
    op.drop_table("run_changes")
    op.drop_column("training_runs", "n_lines")
    op.drop_column("training_runs", "n_changes")
