"""count contract violations."""

import sqlalchemy as sa
from alembic import op

revision = "e8a30b57d146"
down_revision = "c41d7e0b95fa"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "contract_violations",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_contract_violations_model_id_models"
        ),
        sa.PrimaryKeyConstraint("model_id", "hour", "field", "kind", name="pk_contract_violations"),
    )


def downgrade() -> None:
    op.drop_table("contract_violations")
