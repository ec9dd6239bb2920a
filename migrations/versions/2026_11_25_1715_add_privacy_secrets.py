"""add privacy secrets."""

import sqlalchemy as sa
from alembic import op

revision = "c41d7e0b95fa"
down_revision = "5c0d9e7a41b6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "privacy_secrets",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_privacy_secrets_model_id_models"
        ),
        sa.PrimaryKeyConstraint("model_id", name="pk_privacy_secrets"),
    )


def downgrade() -> None:
    op.drop_table("privacy_secrets")
