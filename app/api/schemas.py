"""What requests and answers look like, for validation and for OpenAPI."""

import math
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.domain.errors import printable
from app.domain.observations import time_of
from app.domain.policies import SearchPolicy, SelectionPolicy
from app.domain.training import HIGHEST_PRIORITY

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$",
        description="lower case letters, digits, dots, dashes and underscores",
    ),
]
Reason = Annotated[str, Field(min_length=1, max_length=2000, description="kept in the audit")]


def storable(value: Any) -> Any:
    """Return a JSON value as it came.

    Raises:
        ValueError: JSON (RFC 8259) or Postgres has no such value: NaN, an infinity, the NUL
            character, half a surrogate pair.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite; leave the field out for a missing value")
    if isinstance(value, str) and printable(value) != value:
        raise ValueError("texts must hold neither the NUL character nor half a surrogate pair")
    if isinstance(value, dict):
        for key, item in value.items():
            storable(key)
            storable(item)
    if isinstance(value, list):
        for item in value:
            storable(item)
    return value


Document = Annotated[dict[str, Any], BeforeValidator(storable)]


class Body(BaseModel):
    """A request's body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, value: Any) -> Any:
        return storable(value)


class Answer(BaseModel):
    """An answer's body; it may gain fields."""

    model_config = ConfigDict(extra="allow", frozen=True)


_BOUND = "of a number; of a datetime, as an RFC 3339 time"


class FieldBody(Body):
    """One field of the input contract."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["text", "image", "number", "category", "boolean", "datetime", "embedding"]
    required: bool = True
    min: Annotated[float | str | None, Field(description=_BOUND)] = None
    max: Annotated[float | str | None, Field(description=_BOUND)] = None
    categories: list[str] | None = None
    max_length: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    dimension: Annotated[
        int | None, Field(ge=1, le=65_536, description="how many numbers an embedding has")
    ] = None
    privacy: Annotated[
        Literal["hash", "drop"] | None,
        Field(description="hash its values (text, category), or drop them, before they are stored"),
    ] = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.privacy == "hash" and self.type not in {"text", "category"}:
            raise ValueError(
                f"only text and category fields can be hashed; drop a {self.type}, or send it as a "
                "category"
            )
        if (self.type == "embedding") != (self.dimension is not None):
            raise ValueError(
                "an embedding needs a dimension, such as 384, and no other field has one"
            )
        low, high = self.bounds
        if low is not None and high is not None and low > high:
            raise ValueError(f"min must not be beyond max: {self.min} is beyond {self.max}")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Return the bounds as numbers; those of a datetime as seconds since 1970.

        Raises:
            ValueError: a bound does not suit the type.
        """
        return self._bound(self.min), self._bound(self.max)

    def _bound(self, value: float | str | None) -> float | None:
        if value is None:
            return None
        if self.type == "datetime":
            at = time_of(value)
            if at is None:
                raise ValueError("the bounds of a datetime are RFC 3339 times with an offset")
            return at.timestamp()
        if self.type != "number" or isinstance(value, str):
            raise ValueError("min and max bound a number by numbers, a datetime by times")
        return value


class ContractBody(Body):
    """What an input must and may hold."""

    fields: Annotated[list[FieldBody], Field(min_length=1)]


class ObjectiveBody(Body):
    """What counts as good."""

    metric: Annotated[
        str, Field(description="one that the task type has; by default its first")
    ] = "accuracy"
    direction: Annotated[
        Literal["maximize", "minimize"], Field(description="by default the metric's own")
    ] = "maximize"
    margin: Annotated[float, Field(ge=0, le=1)] = 0.01
    slices: list[str] = []
    baseline: float | None = None


class TargetBody(Body):
    """What a model that answers with numbers answers with."""

    unit: Annotated[str | None, Field(max_length=100)] = None
    min: Annotated[float | None, Field(description="of a label; predictions may lie beyond")] = None
    max: Annotated[float | None, Field(description="of a label; predictions may lie beyond")] = None
    scale: Annotated[
        float | None,
        Field(
            gt=0,
            description="error that counts as entirely wrong; by default the range of the middle "
            "half of the first labels that a version is judged on",
        ),
    ] = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min must be below max: {self.min} is not below {self.max}")
        return self


class NewModelBody(Body):
    """A model to be maintained."""

    name: Name
    task_type: str
    base_model: Annotated[
        str, Field(min_length=1, description="a local directory, a preset, or a hub id")
    ]
    labels: Annotated[
        list[str],
        Field(
            max_length=10_000,
            description="every class, or every label of a span; none where answers are numbers",
        ),
    ] = []
    target: TargetBody | None = None
    input_contract: ContractBody | None = None
    objective: ObjectiveBody = ObjectiveBody()
    policy: dict[str, Any] = {}


class LabelSetBody(Body):
    """Labels that a model is to know too."""

    add: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    reason: Reason = "not stated"


class ReasonBody(Body):
    """Why."""

    reason: Reason = "not stated"


class RetrainBody(Body):
    """A wish for a retrain."""

    reason: Reason
    start_from: Literal["champion", "base"] | None = None
    recipe: dict[str, Any] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    repeat_of: UUID | None = None
    force: Annotated[
        bool, Field(description="in spite of incidents; without their rows all the same")
    ] = False
    priority: Annotated[
        int | None,
        Field(
            ge=-HIGHEST_PRIORITY,
            le=HIGHEST_PRIORITY,
            description="among the waiting runs of all models; larger goes first; null: the "
            "policy's",
        ),
    ] = None
    selection: Annotated[
        SelectionPolicy | None,
        Field(description="which rows the run trains on; null: the policy's"),
    ] = None
    search: Annotated[
        SearchPolicy | None,
        Field(description="how the run's recipe is searched for; null: as the policy says"),
    ] = None


class ResolveBody(Body):
    """The end of an incident."""

    reason: Reason
    is_genuine: Annotated[
        bool,
        Field(
            description="no fault, but how things are now: its rows count, and the same field and "
            "kind opens no other incident under this champion"
        ),
    ] = False


class PromoteBody(Body):
    """A person's promotion."""

    reason: Reason
    force: bool = False
    judged_against: Annotated[int, Field(ge=0)] | None = None


class ReferenceBody(Body):
    """What a version is to be compared with."""

    dataset: UUID
    reason: Reason


class RollbackBody(Body):
    """A person's rollback."""

    reason: Reason
    to: Annotated[int, Field(ge=1)] | None = None


class KeyBody(Body):
    """A key to be made."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    role: Literal["ingest", "viewer", "operator", "approver", "admin"]


class Problem(Answer):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] | None = None


class PolicyAnswer(Answer):
    """A policy in force."""

    version: int
    document: dict[str, Any]


class ForgottenAnswer(Answer):
    """What is forgotten of one kind after how many days; None: never."""

    days: int | None
    before: date | None
    n_forgotten: int
    updated_at: datetime | None


class RetentionAnswer(Answer):
    """What retention forgets, and has forgotten."""

    inputs: ForgottenAnswer
    quarantine: ForgottenAnswer
    reports: ForgottenAnswer


class WatchAnswer(Answer):
    """How far the watch has come; of what is unchecked, at most 100,000 are counted."""

    n_observations: int
    n_labels: int
    n_unchecked_observations: int
    n_unchecked_labels: int
    last_checked_at: datetime | None
    is_settled: bool


class ModelAnswer(Answer):
    """A maintained model."""

    id: UUID
    name: str
    task_type: str
    base_model: str
    labels: list[str]
    answers: Literal["class", "number", "spans"]
    target: dict[str, Any] | None
    input_contract: dict[str, Any]
    objective: dict[str, Any]
    policy: PolicyAnswer
    is_paused: bool
    champion: int | None
    created_at: datetime
    watch: WatchAnswer
    incidents: list[dict[str, Any]]


class RejectedRow(Answer):
    """A row that was not stored."""

    index: int
    id: str | None = None
    errors: list[dict[str, str]]


class IngestAnswer(Answer):
    """What became of a batch of observations."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRow]


class LabelsAnswer(Answer):
    """What became of a batch of labels."""

    accepted: int
    unchanged: int
    rejected: list[RejectedRow]


class LabelLagAnswer(Answer):
    """How long labels take, in seconds from an observation's time, and how many come at all."""

    n: int
    n_labelled: int
    p50_seconds: float | None
    p95_seconds: float | None
    is_settled: bool
    n_due: int
    n_due_labelled: int
    coverage: float | None
    coverage_lower: float | None
    coverage_upper: float | None
    by_version: list[dict[str, Any]]


class DatasetAnswer(Answer):
    """An uploaded dataset."""

    id: UUID
    role: str
    n_rows: int
    sha256: str
    created_at: datetime


class CheckAnswer(Answer):
    """A look at a model."""

    id: UUID
    state: Literal["queued", "running", "completed", "failed"]
    report: UUID | None = None
    decision: UUID | None = None


class SelfTestAnswer(Answer):
    """A test of a model's detectors.

    Attributes:
        version: number of the champion whose reference was used.
        result: once completed; `outcome` is measured or deferred, `shifts` says of each known
            shift its size, the trials, `power` with its 95 % interval, `delay_rows` of the watch
            of rows, and whether the detectors are blind to it.
    """

    id: UUID
    state: Literal["queued", "running", "completed", "failed"]
    version: int | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class ReportAnswer(Answer):
    """A drift report."""

    id: UUID
    version: int
    finding: Literal["fault", "drift", "no_drift", "insufficient_data"]
    window: dict[str, Any]
    n_reference: int
    scores: list[dict[str, Any]]
    performance: dict[str, Any] | None
    watch: dict[str, Any] | None
    estimate: dict[str, Any] | None
    slices: list[dict[str, Any]]
    created_at: datetime


class BoundedAnswer(Answer):
    """A share with its interval (95 %) and what it rests on."""

    value: float
    lower: float
    upper: float
    n_rows: int
    n_labels: int


class EstimateAnswer(Answer):
    """Accuracy where labels are few or none."""

    state: Literal["stands", "withdrawn", "insufficient_data", "not_estimated"]
    reason: str
    since: datetime | None
    without_labels: BoundedAnswer | None
    accuracy: BoundedAnswer | None
    harm: Annotated[float | None, Field(description="chance that it is under the floor")]
    n_labels: int
    n_calibration: int


class AccuracyAnswer(Answer):
    """How accurate the champion is, as its newest report says."""

    version: int | None
    accepted: dict[str, Any]
    labelled: dict[str, Any] | None
    estimate: EstimateAnswer | None
    slices: list[dict[str, Any]]
    report: UUID | None
    as_of: datetime | None


class IncidentAnswer(Answer):
    """A fault upstream, and what it blocks."""

    id: UUID
    field: str
    kind: Literal["schema", "missing", "constant", "blank", "scale", "range", "categories"]
    state: Literal["open", "acknowledged", "resolved"]
    reason: str
    numbers: dict[str, Any]
    first_sequence: int | None
    last_sequence: int | None
    is_genuine: bool
    blocks: list[str]
    report: UUID | None
    opened_at: datetime
    last_seen_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


class MovedAnswer(Answer):
    """What people look at when something has drifted; empty once retention forgot it."""

    histograms: dict[str, dict[str, Any]]
    exemplars: list[dict[str, Any]]
    classes: dict[str, Any]


class DecisionAnswer(Answer):
    """A decision record."""

    id: UUID
    outcome: Literal["retrain", "skip", "defer"]
    trigger: str | None
    reason: str
    signals: list[dict[str, Any]]
    policy_version: int
    report: UUID | None
    run: UUID | None
    created_at: datetime


class QueueAnswer(Answer):
    """Where a waiting run stands among those of all models.

    Attributes:
        position: 1 goes next.
        waits_for: a worker; or its model, which has as many runs under way as its policy allows.
        expected_start_seconds: from the usual times of the runs before it; null where a run
            before it is the first of its model, or no worker lives: nobody can know then.
    """

    position: int
    n_waiting: int
    waits_for: Literal["worker", "model"]
    expected_start_seconds: float | None


class UsageAnswer(Answer):
    """What training has used; null is unknown, and nothing is guessed.

    Judging, the machine's idle power, memory and cooling are in none of the figures. Of an attempt
    whose worker was lost it is what its last line of progress said.

    Attributes:
        cpu_seconds: of all cores together.
        gpu_seconds: for which a GPU was held.
        cpu_energy_source, gpu_energy_source: NVML (measured), or the power it is estimated by.
        cost: by the installation's prices, in their currency.
    """

    cpu_seconds: float
    gpu_seconds: float
    energy_joules: float | None
    cpu_joules: float
    cpu_energy_source: str
    gpu_joules: float | None
    gpu_energy_source: str
    cost: float | None
    co2_grams: float | None
    grams_per_kwh: float | None


class ModelUsageAnswer(Answer):
    """What training a model took, runs that led to nothing included, and what it brought.

    Attributes:
        n_runs: that were started; of `n_runs_unstated` nobody knows what they took.
        points_gained: hundredths of accuracy by which promoted versions beat the champions of
            their time on the same rows; the first champion, which beat none, is not among the
            `n_compared`.
        per_point: the total for each of them; what is unknown is left out.
    """

    n_runs: int
    n_runs_unstated: int
    total: UsageAnswer | None
    n_promoted: int
    n_compared: int
    points_gained: float | None
    per_point: dict[str, float] | None


class RunAnswer(Answer):
    """A training run.

    Attributes:
        deterministic: whether the same record gives the same version again on such a machine;
            null until it is trained.
        queue: while it is queued.
        waited_seconds: from the request to its first start, or until now.
        device: the GPU it has to itself while it runs, by its UUID; several by commas.
        selection: which rows it was asked to train on; `snapshot.selection` says how many old and
            new ones that left.
        search: how its recipe is searched for, with its `trials` (number, recipe, state, score,
            scores by epoch, seconds, best_epoch, error) and the number of the `best`; null without
            a search.
    """

    id: UUID
    state: Literal["queued", "running", "trained", "succeeded", "failed", "cancelled"]
    priority: int
    queue: QueueAnswer | None
    waited_seconds: float
    device: str | None
    attempt: int
    start_from: str
    selection: dict[str, Any]
    search: dict[str, Any] | None
    progress: dict[str, Any] | None
    decision: UUID | None
    version: int | None
    outcome: str | None
    error: dict[str, Any] | None
    deterministic: bool | None
    usage: UsageAnswer | None
    snapshot_sha256: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunChangeItem(Answer):
    """One thing that happened to a run.

    Attributes:
        number: 1, 2, ... within the run; also the id of its server-sent event.
        what: progress, queued, cancel_requested, or what moved it (started, lost, trained, ...).
        state: after it.
        progress: phase, step, total_steps, loss, rows_per_second, eta_seconds, memory_bytes, ...
    """

    number: int
    at: datetime
    what: str
    state: Literal["queued", "running", "trained", "succeeded", "failed", "cancelled"]
    attempt: int
    progress: dict[str, Any] | None


class RunHistoryAnswer(Answer):
    """What has happened to a run, oldest first; lines of progress evenly over its length."""

    run: UUID
    items: list[RunChangeItem]


class VersionAnswer(Answer):
    """A model version with its lineage and evidence."""

    number: int
    state: str
    origin: str
    digest: str
    files: list[dict[str, Any]]
    metrics: dict[str, Any]
    accepted: dict[str, Any]
    lineage: dict[str, Any]
    usage: UsageAnswer | None
    evidence: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    created_at: datetime


class ReferenceAnswer(Answer):
    """What a version is compared with."""

    version: int
    dataset: UUID
    role: str
    n_rows: int
    sha256: str
    since: datetime
    rows: dict[str, str]
    history: list[dict[str, Any]]


class AlarmRate(Answer):
    """Alarms in as many rows as the policy promises one false one for: at most 1 is promised."""

    per_promised_rows: float
    lower: float
    upper: float


class AlarmsAnswer(Answer):
    """What came of the alarms of drift; one that stands over many reports is one.

    Attributes:
        since: time of the oldest report counted; the newest 10,000 are.
        n_rows: rows that these reports saw, each once.
        n_confirmed: labels showed, while it stood, that accuracy had fallen.
        n_refuted: enough labels came and accuracy stood: the rows were as before, or had moved
            without harm, which labels cannot tell apart.
        n_unjudged: too few labels came to tell.
        rates: of the `refuted`, and of the `unconfirmed` (refuted or unjudged): the true rate of
            false alarms is at most the latter; with exact 95 % intervals. None before any row.
    """

    since: datetime | None
    n_reports: int
    n_rows: int
    n_alarms: int
    n_confirmed: int
    n_refuted: int
    n_unjudged: int
    promised_rows: float
    rates: dict[str, AlarmRate | None]


class ProfileColumn(Answer):
    """One signal of a reference, as it is counted.

    Attributes:
        kind: numeric or categorical.
        n_rows: rows that were counted, those without a value included.
        edges: of a numeric column; bin 0 lies below the first, the last bin above the last.
        categories: of a categorical column, most frequent first.
        n_rare: how many further categories share the last bin.
        counts: rows by bin.
    """

    name: str
    kind: str
    n_rows: int
    missing_share: float | None
    edges: list[float] | None = None
    categories: list[str] | None = None
    n_rare: int | None = None
    counts: list[int]


class ProfileAnswer(Answer):
    """What a version was accepted on, as every check of it reads it."""

    version: int
    reference: UUID
    n_rows: int
    size_bytes: int
    columns: list[ProfileColumn]
    created_at: datetime


class Listing(Answer):
    """One page of a list."""

    items: list[dict[str, Any]]
    next_cursor: str | None = None


class PerformanceAnswer(Listing):
    """The accuracy that users got, bucket by bucket, and what is known of the champion's."""

    events: list[dict[str, Any]]
    champion: AccuracyAnswer
