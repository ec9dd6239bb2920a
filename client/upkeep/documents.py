"""What do the service's JSON documents look like? Their types; at run time they are plain dicts.

A newer service may add fields; times are RFC 3339 strings.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

Row = Mapping[str, Any]
Problem = dict[str, Any]


class Policy(TypedDict):
    """When to retrain and promote; each change is a new version."""

    version: int
    document: dict[str, Any]


class Watch(TypedDict):
    """How much has been seen, and how much of it has been looked at."""

    n_observations: int
    n_labels: int
    n_unchecked_observations: int
    n_unchecked_labels: int
    last_checked_at: str | None
    is_settled: bool


class ModelDocument(TypedDict):
    """One maintained model; `champion` is the number of the version in charge."""

    id: str
    name: str
    task_type: str
    base_model: str
    labels: list[str]
    answers: str
    target: dict[str, Any] | None
    input_contract: dict[str, Any]
    objective: dict[str, Any]
    policy: Policy
    is_paused: bool
    champion: int | None
    created_at: str
    watch: Watch


class TaskTypeDocument(TypedDict):
    """One kind of learning that workers have announced."""

    name: str
    description: str
    options: dict[str, Any]


class DatasetDocument(TypedDict):
    """One uploaded set of examples."""

    id: str
    role: str
    n_rows: int
    sha256: str
    created_at: str


class UploadDocument(DatasetDocument):
    """A set of examples just uploaded; `rejected` tells the unusable rows by index."""

    n_rejected: int
    rejected: list[dict[str, Any]]


class CheckDocument(TypedDict):
    """One asked-for look at a model: queued, running, completed or failed."""

    id: str
    state: str
    report: str | None
    decision: str | None
    error: Problem | None


class ReportDocument(TypedDict):
    """What a check found: drift, no_drift or insufficient_data, with every score."""

    id: str
    version: int
    window: dict[str, Any]
    n_reference: int
    finding: str
    scores: list[dict[str, Any]]
    performance: dict[str, Any] | None
    created_at: str
    evidently: dict[str, str]


class IncidentDocument(TypedDict):
    """A fault upstream: open, acknowledged or resolved, and what it blocks meanwhile."""

    id: str
    field: str
    kind: str
    state: str
    reason: str
    numbers: dict[str, Any]
    first_sequence: int | None
    last_sequence: int | None
    is_genuine: bool
    blocks: list[str]
    opened_at: str
    resolved_at: str | None


class ReferenceDocument(TypedDict):
    """The dataset that a version is compared with, and those before, newest first."""

    version: int
    dataset: str
    role: str
    n_rows: int
    sha256: str
    since: str
    history: list[dict[str, Any]]


class DecisionDocument(TypedDict):
    """What was concluded from the signals, and why: retrain, skip or defer."""

    id: str
    outcome: str
    trigger: str | None
    reason: str
    signals: list[dict[str, Any]]
    policy_version: int
    report: str | None
    run: str | None
    created_at: str


class QueuePlace(TypedDict):
    """Where a waiting run stands among those of all models: 1 goes next."""

    position: int
    n_waiting: int
    waits_for: str
    expected_start_seconds: float | None


class UsageDocument(TypedDict):
    """What training has used, each figure with its source; what is None is unknown."""

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


class RunDocument(TypedDict):
    """One attempt to produce a version: queued, running, trained, then an end."""

    id: str
    state: str
    priority: int
    queue: QueuePlace | None
    waited_seconds: float
    device: str | None
    attempt: int
    start_from: str
    progress: dict[str, Any] | None
    queued_at: str
    started_at: str | None
    finished_at: str | None
    decision: str | None
    version: int | None
    outcome: str | None
    error: Problem | None
    deterministic: bool | None
    usage: UsageDocument | None
    snapshot_sha256: str | None
    seed: int
    recipe: dict[str, Any]
    selection: dict[str, Any]
    search: dict[str, Any] | None
    result: dict[str, Any] | None


class RunChangeDocument(TypedDict):
    """One thing that happened to a run: `what` is "progress", or says how it moved.

    `number` counts them within the run; lines of progress are thinned out as they grow old.
    """

    number: int
    at: str
    what: str
    state: str
    attempt: int
    progress: dict[str, Any] | None


class FileDocument(TypedDict):
    """One file of a version."""

    path: str
    sha256: str
    size_bytes: int
    url: str


class VersionDocument(TypedDict):
    """One immutable artifact with its lineage, its evidence and the verdicts on it."""

    number: int
    state: str
    origin: str
    digest: str
    files: list[FileDocument]
    metrics: dict[str, Any]
    accepted: dict[str, Any]
    lineage: dict[str, Any]
    usage: UsageDocument | None
    evidence: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    created_at: str


class ChampionDocument(VersionDocument):
    """The version in charge, since when, and by whose doing."""

    since: str
    why: dict[str, Any]


class PerformanceDocument(TypedDict):
    """Served accuracy by bucket of observations in arrival order, and what happened between.

    Of the champion: its accuracy by labels, by an estimate without, and by slice.
    """

    items: list[dict[str, Any]]
    events: list[dict[str, Any]]
    champion: dict[str, Any]


class AuditDocument(TypedDict):
    """One entry of the audit, a hash chain: who did what to which subject, and when."""

    sequence: int
    at: str
    actor: str
    action: str
    subject: str | None
    detail: dict[str, Any]
    previous_sha256: str
    sha256: str


Rows = Sequence[Row]
