"""add incidents, and how far refused observations were judged."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "c41d7a90e2b6"
down_revision = "e8a30b57d146"
branch_labels = None
depends_on = None

MARKS = ("refused_through", "accepted_through")


def upgrade() -> None:
    at = sa.DateTime(timezone=True)
    op.create_table(
        "incidents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("report_id", sa.Uuid(), nullable=True),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("numbers", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=True),
        sa.Column("opened_at", at, server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", at, server_default=sa.text("now()"), nullable=False),
        sa.Column("acknowledged_at", at, nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", at, nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("is_genuine", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "state IN ('open', 'acknowledged', 'resolved')", name=op.f("ck_incidents_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_incidents_model_id_models")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_incidents_version_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["report_id"], ["drift_reports.id"], name=op.f("fk_incidents_report_id_drift_reports")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index(op.f("ix_incidents_model_id_incidents_id"), "incidents", ["model_id", "id"])
    op.create_index(
        "uq_incidents_standing",
        "incidents",
        ["model_id", "field", "kind"],
        unique=True,
        postgresql_where=sa.text("state IN ('open', 'acknowledged')"),
    )
    for mark in MARKS:
        op.add_column(
            "models", sa.Column(mark, sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )


def downgrade() -> None:
    for mark in MARKS:
        op.drop_column("models", mark)
    op.drop_table("incidents")
