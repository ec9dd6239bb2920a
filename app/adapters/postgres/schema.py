"""The tables; constraints carry the rules that must never break."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.domain.incidents import IncidentState
from app.domain.training import RunState
from app.domain.versions import VersionState

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Json = dict[str, Any]


def _one_of(column: str, states: type[RunState | VersionState | IncidentState]) -> CheckConstraint:
    known = ", ".join(f"'{state}'" for state in states)
    return CheckConstraint(f"{column} IN ({known})", name=f"{column}_known")


class Row(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads this class attribute
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
        str: Text,
        bytes: LargeBinary,
        float: Float,
    }


class ProjectRow(Row):
    """A project: the border between tenants."""

    __tablename__ = "projects"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKeyRow(Row):
    """An API key, kept as its SHA-256."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "role IN ('ingest', 'viewer', 'operator', 'approver', 'admin')", name="role_known"
        ),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    role: Mapped[str]
    key_sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class ModelRow(Row):
    """A maintained model, and where its watch stands."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    task_type: Mapped[str]
    base_model: Mapped[str]
    labels: Mapped[list[Any]]
    contract: Mapped[list[Any]]
    objective: Mapped[Json]
    answer: Mapped[Json | None]
    policy_version: Mapped[int] = mapped_column(server_default=text("1"))
    is_paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    measured_baseline: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_through: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    checked_labels_through: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_checked_at: Mapped[datetime | None]
    last_scheduled_at: Mapped[datetime | None]
    recheck_at: Mapped[datetime | None]
    refused_through: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    accepted_through: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class PrivacySecretRow(Row):
    """What a model's hashed fields are hashed with; nothing that answers a request shows it."""

    __tablename__ = "privacy_secrets"
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    secret: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PolicyRow(Row):
    """One version of a model's policy."""

    __tablename__ = "policies"
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[Json]
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatasetRow(Row):
    """A set of examples that was uploaded or set aside; its rows are an artifact."""

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint(
            "role IN ('training', 'reference', 'holdout', 'golden', 'pinned')", name="role"
        ),
        Index(None, "model_id", "role", "created_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    role: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    n_rows: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ObservationRow(Row):
    """One inference record.

    Its inputs and scores are in a segment, or in the row itself when it came in a small batch.
    Nothing refers to `models` here: the use case has just read the model, none is ever deleted,
    and a foreign key costs a look-up a row.
    """

    __tablename__ = "observations"
    __table_args__ = (
        Index(None, "model_id", "sequence"),
        Index(
            "ix_observations_labelled",
            "model_id",
            "label_sequence",
            postgresql_where=text("label_sequence IS NOT NULL"),
        ),
        Index(
            "ix_observations_inline_by_model",
            "model_id",
            "received_at",
            postgresql_where=text("inputs IS NOT NULL"),
        ),
    )
    model_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    observed_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    inputs: Mapped[Json | None]
    prediction: Mapped[str | None]
    scores: Mapped[Json | None]
    version: Mapped[int | None]
    shadow: Mapped[Json | None]
    label: Mapped[str | None]
    label_sequence: Mapped[int | None] = mapped_column(BigInteger)
    segment_id: Mapped[int | None] = mapped_column(BigInteger)
    place: Mapped[int | None]


class ObservationSegmentRow(Row):
    """Predictions, inputs and scores of many observations, as an Arrow IPC stream.

    A partition holds what arrived on one day (UTC), so that a day is forgotten by dropping it; the
    default one takes what has no day of its own.
    """

    __tablename__ = "observation_segments"
    __table_args__ = {"postgresql_partition_by": "RANGE (arrived_on)"}  # noqa: RUF012  SQLAlchemy's
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    arrived_on: Mapped[date] = mapped_column(primary_key=True)
    model_id: Mapped[UUID]
    n_rows: Mapped[int]
    body: Mapped[bytes]


class ForgottenRow(Row):
    """What retention has forgotten of a model: inputs, quarantined rows, or Evidently's pages.

    All of the kind that arrived before the day `before` (UTC) is gone.
    """

    __tablename__ = "forgotten"
    __table_args__ = (
        CheckConstraint("kind IN ('inputs', 'quarantine', 'reports')", name="kind_known"),
    )
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    before: Mapped[date | None]
    n: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LabelRow(Row):
    """A label as it arrived; corrections are further rows."""

    __tablename__ = "labels"
    __table_args__ = (Index(None, "model_id", "observation_id"),)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model_id: Mapped[UUID]
    observation_id: Mapped[str] = mapped_column(String(200))
    label: Mapped[str]
    labelled_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class QuarantinedRow(Row):
    """An observation that broke the input contract, kept for whoever must mend it."""

    __tablename__ = "quarantined_observations"
    __table_args__ = (Index(None, "model_id", "sequence"),)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    observation_id: Mapped[str | None]
    body: Mapped[str]
    faults: Mapped[list[Any]]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ContractViolationRow(Row):
    """How many values of a field broke the input contract in one way, in one hour of arrival."""

    __tablename__ = "contract_violations"
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)


class ObservationCountsRow(Row):
    """How many observations of a model there are, and how many have a label."""

    __tablename__ = "observation_counts"
    model_id: Mapped[UUID] = mapped_column(primary_key=True)
    n_observations: Mapped[int] = mapped_column(BigInteger)
    n_labels: Mapped[int] = mapped_column(BigInteger)


class ModelVersionRow(Row):
    """One immutable artifact with its lineage."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index(
            "uq_model_versions_champion",
            "model_id",
            unique=True,
            postgresql_where=text("state = 'champion'"),
        ),
        _one_of("state", VersionState),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())
    origin: Mapped[str]
    digest: Mapped[str]
    files: Mapped[list[Any]]
    metrics: Mapped[Json]
    accepted: Mapped[Json]
    reference: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id"))
    run_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("training_runs.id", use_alter=True), unique=True
    )
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"))
    snapshot_sha256: Mapped[str | None]
    trained_through: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    n_training_rows: Mapped[int] = mapped_column(server_default=text("0"))
    adopt: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class VersionTransitionRow(Row):
    """One move of a version: who, when, why."""

    __tablename__ = "version_transitions"
    __table_args__ = (Index(None, "model_id", "at"),)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"))
    number: Mapped[int]
    event: Mapped[str]
    state_before: Mapped[str]
    state_after: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ReferenceChangeRow(Row):
    """One replacement of what a version is compared with: who, when, why."""

    __tablename__ = "reference_changes"
    __table_args__ = (Index(None, "version_id", "at"),)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"))
    before: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id"))
    after: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    actor: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CheckRow(Row):
    """One asked-for look at a model."""

    __tablename__ = "checks"
    __table_args__ = (
        Index(
            "uq_checks_in_flight",
            "model_id",
            unique=True,
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
        CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'failed')", name="state_known"
        ),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    state: Mapped[str] = mapped_column(server_default=text("'queued'"))
    requested_by: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    report_id: Mapped[UUID | None] = mapped_column(ForeignKey("drift_reports.id"))
    decision_id: Mapped[UUID | None] = mapped_column(ForeignKey("decisions.id"))
    error: Mapped[Json | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    fencing_token: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]


class SelfTestRow(Row):
    """One asked-for test of a model's detectors."""

    __tablename__ = "self_tests"
    __table_args__ = (
        Index(None, "model_id", "id"),
        Index(
            "uq_self_tests_in_flight",
            "model_id",
            unique=True,
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
        CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'failed')", name="state_known"
        ),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    version_number: Mapped[int | None]
    state: Mapped[str] = mapped_column(server_default=text("'queued'"))
    requested_by: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    fencing_token: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]


class DriftReportRow(Row):
    """All scores of one check, corrected together."""

    __tablename__ = "drift_reports"
    __table_args__ = (
        Index(None, "model_id", "created_at"),
        Index(None, "version_id", "created_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"))
    version_number: Mapped[int]
    finding: Mapped[str]
    window: Mapped[Json]
    n_reference: Mapped[int]
    scores: Mapped[list[Any]]
    performance: Mapped[Json | None]
    watch: Mapped[Json | None]
    estimate: Mapped[Json | None]
    slices: Mapped[list[Any] | None]
    fdr: Mapped[float]
    evidently_json: Mapped[Json | None]
    evidently_html: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReferenceProfileRow(Row):
    """What a version was accepted on, as counts; the newest reference of a version alone."""

    __tablename__ = "reference_profiles"
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    reference_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    document: Mapped[Json]
    arrays: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WindowBlockRow(Row):
    """Consecutive rows of what a version sees now, as counts against its profile."""

    __tablename__ = "window_blocks"
    version_id: Mapped[UUID] = mapped_column(
        ForeignKey("reference_profiles.version_id"), primary_key=True
    )
    first_sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last_sequence: Mapped[int] = mapped_column(BigInteger)
    window_rows: Mapped[int]
    n_rows: Mapped[int]
    first_at: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes]


class IncidentRow(Row):
    """A fault upstream; its rows, between the two arrival numbers, are not learned from."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index(
            "uq_incidents_standing",
            "model_id",
            "field",
            "kind",
            unique=True,
            postgresql_where=text("state IN ('open', 'acknowledged')"),
        ),
        Index(None, "model_id", "id"),
        _one_of("state", IncidentState),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"))
    report_id: Mapped[UUID | None] = mapped_column(ForeignKey("drift_reports.id"))
    field: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    numbers: Mapped[Json]
    first_sequence: Mapped[int | None] = mapped_column(BigInteger)
    last_sequence: Mapped[int | None] = mapped_column(BigInteger)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]
    resolution: Mapped[str | None]
    is_genuine: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class DecisionRow(Row):
    """What was concluded, from what, and why."""

    __tablename__ = "decisions"
    __table_args__ = (Index(None, "model_id", "created_at"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    outcome: Mapped[str]
    trigger: Mapped[str | None]
    reason: Mapped[str]
    signals: Mapped[list[Any]]
    situation: Mapped[Json]
    defer_until: Mapped[datetime | None]
    policy_version: Mapped[int]
    report_id: Mapped[UUID | None] = mapped_column(ForeignKey("drift_reports.id"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("training_runs.id", use_alter=True))
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TrainingRunRow(Row):
    """One attempt to produce a version, with its lease.

    `slot` numbers a model's runs in flight, so that a unique index can bound how many they are;
    `device` is the GPU, or the GPUs by commas, that the run has to itself while it runs.
    """

    __tablename__ = "training_runs"
    __table_args__ = (
        Index(
            "uq_training_runs_slot",
            "model_id",
            "slot",
            unique=True,
            postgresql_where=text("state IN ('queued', 'running', 'trained')"),
        ),
        Index(
            "uq_training_runs_device",
            "device",
            unique=True,
            postgresql_where=text("state = 'running' AND device IS NOT NULL"),
        ),
        Index(None, "model_id", "queued_at"),
        UniqueConstraint("model_id", "idempotency_key"),
        _one_of("state", RunState),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    state: Mapped[str] = mapped_column(server_default=text("'queued'"))
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    slot: Mapped[int] = mapped_column(server_default=text("0"))
    device: Mapped[str | None]
    spec: Mapped[Json]
    reason: Mapped[str]
    actor: Mapped[str]
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str | None]
    decision_id: Mapped[UUID | None] = mapped_column(ForeignKey("decisions.id"))
    outcome: Mapped[str | None]
    progress: Mapped[Json | None]
    result: Mapped[Json | None]
    usage: Mapped[Json | None]
    trials: Mapped[list[Json] | None] = mapped_column(JSONB)
    error: Mapped[Json | None]
    snapshot_sha256: Mapped[str | None]
    snapshot: Mapped[Json | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    fencing_token: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    n_changes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    n_lines: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class RunChangeRow(Row):
    """One thing that happened to a run; `line` counts its lines of progress."""

    __tablename__ = "run_changes"
    run_id: Mapped[UUID] = mapped_column(ForeignKey("training_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    what: Mapped[str]
    state: Mapped[str]
    attempt: Mapped[int]
    line: Mapped[int | None] = mapped_column(BigInteger)
    progress: Mapped[Json | None]


class EvidenceRow(Row):
    """What the gates were shown of one challenger, and what they answered."""

    __tablename__ = "evidence"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    challenger_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"))
    champion_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"))
    document: Mapped[Json]
    verdicts: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PluginRow(Row):
    """A detector or task type that a worker announced it can run."""

    __tablename__ = "plugins"
    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str]
    options: Mapped[Json]
    detail: Mapped[Json]
    version: Mapped[str]
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HeartbeatRow(Row):
    """A process that is alive."""

    __tablename__ = "heartbeats"
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    detail: Mapped[Json]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OutboxRow(Row):
    """A job that a committed transaction asked for, until the relay has sent it."""

    __tablename__ = "outbox"
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job: Mapped[str]
    queue: Mapped[str]
    subject_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditRow(Row):
    """Who changed what, when and why; each entry carries the hash of the one before."""

    __tablename__ = "audit"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    project_id: Mapped[UUID | None]
    model_id: Mapped[UUID | None]
    subject: Mapped[str]
    detail: Mapped[Json]
    previous_sha256: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
