"""add observation segments.

Inputs of large batches go to segments from here on. Rows that are there already keep theirs: a row
with inputs of its own is as good as one of a small batch, so an upgrade moves nothing and the
service need not stop. Going back brings all inputs home to their rows.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.domain.identity import canonical_json
from app.services.batches import from_bytes, inputs_of, scores_of

revision = "4f0c6e0a91d2"
down_revision = "678713449ceb"
branch_labels = None
depends_on = None

_HOME = sa.text("""
UPDATE observations o SET inputs = s.inputs::jsonb, scores = s.scores::jsonb
FROM unnest(CAST(:inputs AS text[]), CAST(:scores AS text[])) WITH ORDINALITY
  AS s(inputs, scores, n)
WHERE o.segment_id = :segment AND o.place = s.n - 1
""")


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("observation_segment_ids")))
    op.create_table(
        "observation_segments",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("arrived_on", sa.Date(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("id", "arrived_on", name=op.f("pk_observation_segments")),
        postgresql_partition_by="RANGE (arrived_on)",
    )
    # the bodies are compressed already
    op.execute("ALTER TABLE observation_segments ALTER COLUMN body SET STORAGE EXTERNAL")
    op.execute(
        "CREATE TABLE observation_segments_default PARTITION OF observation_segments DEFAULT"
    )
    op.add_column("observations", sa.Column("segment_id", sa.BigInteger(), nullable=True))
    op.add_column("observations", sa.Column("place", sa.Integer(), nullable=True))
    op.alter_column("observations", "inputs", nullable=True)
    op.drop_constraint("fk_observations_model_id_models", "observations")
    op.drop_constraint("fk_labels_model_id_models", "labels")


def downgrade() -> None:
    _bring_home()
    op.create_foreign_key("fk_labels_model_id_models", "labels", "models", ["model_id"], ["id"])
    op.create_foreign_key(
        "fk_observations_model_id_models", "observations", "models", ["model_id"], ["id"]
    )
    op.alter_column("observations", "inputs", nullable=False)
    op.drop_column("observations", "place")
    op.drop_column("observations", "segment_id")
    op.drop_table("observation_segments")
    op.execute(sa.schema.DropSequence(sa.Sequence("observation_segment_ids")))


def _bring_home() -> None:
    """Move the inputs and scores of every segment back into their rows."""
    connection = op.get_bind()
    connection.execute(sa.text("CREATE INDEX observations_going_home ON observations (segment_id)"))
    segments = connection.execute(sa.text("SELECT id FROM observation_segments")).scalars().all()
    for segment in segments:
        query = sa.text("SELECT body FROM observation_segments WHERE id = :id")
        body = from_bytes(connection.execute(query, {"id": segment}).scalar_one())
        connection.execute(
            _HOME,
            {
                "segment": segment,
                "inputs": [canonical_json(row) for row in inputs_of(body)],
                "scores": [row and canonical_json(row) for row in scores_of(body)],
            },
        )
    # what retention has dropped cannot come back; such rows keep their answer and label
    connection.execute(sa.text("UPDATE observations SET inputs = '{}' WHERE inputs IS NULL"))
    connection.execute(sa.text("DROP INDEX observations_going_home"))
