"""add what retention has forgotten, and the index by which it finds a model's inline inputs."""

import sqlalchemy as sa
from alembic import op

revision = "c47d1e9a5b20"
down_revision = "3b1f0a6c52d7"
branch_labels = None
depends_on = None

NEW, OLD = "ix_observations_inline_by_model", "ix_observations_inline"
INLINE = sa.text("inputs IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "forgotten",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("before", sa.Date(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "kind IN ('inputs', 'quarantine', 'reports')", name=op.f("ck_forgotten_kind_known")
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_forgotten_model_id_models")
        ),
        sa.PrimaryKeyConstraint("model_id", "kind", name=op.f("pk_forgotten")),
    )
    _replace(NEW, ["model_id", "received_at"], OLD)


def downgrade() -> None:
    _replace(OLD, ["received_at"], NEW)
    op.drop_table("forgotten")


def _replace(made: str, columns: list[str], dropped: str) -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            made,
            "observations",
            columns,
            postgresql_where=INLINE,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index(
            dropped, table_name="observations", postgresql_concurrently=True, if_exists=True
        )
