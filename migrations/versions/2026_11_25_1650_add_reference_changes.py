"""add reference changes."""

import sqlalchemy as sa
from alembic import op

revision = "d2a86f4be317"
down_revision = "c47d1e9a5b20"
branch_labels = None
depends_on = None

INDEX = "ix_reference_changes_version_id_reference_changes_at"


def upgrade() -> None:
    op.create_table(
        "reference_changes",
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("before", sa.Uuid(), nullable=True),
        sa.Column("after", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_reference_changes_version_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["before"], ["datasets.id"], name=op.f("fk_reference_changes_before_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["after"], ["datasets.id"], name=op.f("fk_reference_changes_after_datasets")
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_reference_changes")),
    )
    op.create_index(INDEX, "reference_changes", ["version_id", "at"])


def downgrade() -> None:
    op.drop_table("reference_changes")
