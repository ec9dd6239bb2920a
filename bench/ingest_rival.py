"""The usual way to take in observations: FastAPI, pydantic, SQLAlchemy's insert of many rows."""

import os
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field
from sqlalchemy import String, create_engine, func
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """Base of the table."""


class Stored(Base):
    """One observation."""

    __tablename__ = "usual_observations"
    model: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    observed_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    inputs: Mapped[dict[str, float]] = mapped_column(JSONB)
    prediction: Mapped[str | None]


class Sent(BaseModel):
    """One observation as it is sent."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    at: datetime | None = None
    inputs: dict[str, float]
    prediction: str | None = None


class Batch(BaseModel):
    """The body of a request."""

    observations: list[Sent]


class Stats(BaseModel):
    """The answer."""

    received: int


def create_app() -> FastAPI:
    """Return the app; DATABASE_URL names its database, which has the table already."""
    engine = create_engine(os.environ["DATABASE_URL"], pool_size=10, max_overflow=20)
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/models/{name}/observations")
    def log_observations(name: str, batch: Batch) -> Stats:
        now = datetime.now(UTC)
        values = [
            {
                "model": name,
                "id": sent.id,
                "observed_at": sent.at or now,
                "inputs": sent.inputs,
                "prediction": sent.prediction,
            }
            for sent in batch.observations
        ]
        statement = insert(Stored).on_conflict_do_nothing()
        if os.environ.get("USUAL_RETURNING"):
            statement = statement.returning(Stored.id)
        with Session(engine) as session:
            session.execute(statement, values)
            session.commit()
        return Stats(received=len(values))

    return app
