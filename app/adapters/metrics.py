"""What Prometheus scrapes: read from Postgres at each scrape, so every API process agrees."""

import math
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge, Histogram

from app.adapters import run_metrics
from app.domain.alarms import AlarmRecord
from app.domain.label_lag import LabelLag
from app.services.alarms import alarm_record
from app.services.observations import label_lags
from app.services.ports import Json, UnitOfWork

requests = Counter("upkeep_http_requests", "Requests answered.", ["method", "route", "status"])
request_seconds = Histogram("upkeep_http_request_seconds", "Time to answer.", ["route"])
observations = Gauge("upkeep_observations", "Observations stored.", ["model"])
labels = Gauge("upkeep_labels", "Observations with a label.", ["model"])
unchecked = Gauge("upkeep_unchecked_observations", "Observations no check saw yet.", ["model"])
check_age = Gauge("upkeep_last_check_age_seconds", "Age of the newest check.", ["model"])
champion = Gauge("upkeep_champion_version", "Number of the champion.", ["model"])
champion_age = Gauge("upkeep_champion_age_seconds", "Since the champion took over.", ["model"])
finding = Gauge("upkeep_drift_finding", "1 for the newest finding.", ["model", "finding"])
drift_score = Gauge("upkeep_drift_q_value", "Newest q-value.", ["model", "feature"])
drift_effect = Gauge("upkeep_drift_effect_ratio", "Newest effect size.", ["model", "feature"])
alarms = Gauge(
    "upkeep_drift_alarms", "Alarms, by what labels said (newest reports).", ["model", "judged"]
)
watched = Gauge("upkeep_watched_rows", "Rows that these reports saw, each once.", ["model"])
alarm_rate = Gauge(
    "upkeep_false_alarm_rate_ratio",
    "Alarms (refuted by labels; unconfirmed) in as many rows as one false one is promised for.",
    ["model", "counted"],
)
label_lag = Gauge(
    "upkeep_label_lag_seconds",
    "From an observation to its label, of the labels that come.",
    ["model", "quantile"],
)
label_coverage = Gauge(
    "upkeep_label_coverage_ratio", "Labelled, of the observations older than that.", ["model"]
)
forgotten = Gauge(
    "upkeep_forgotten",
    "Rows (inputs, quarantine) and Evidently pages (reports) that retention forgot.",
    ["model", "kind"],
)
violations = Gauge(
    "upkeep_contract_violations",
    "Values that broke the input contract; kind is missing, type, value or unknown.",
    ["model", "field", "kind"],
)
self_test_age = Gauge(
    "upkeep_self_test_age_seconds", "Age of the newest measured self-test.", ["model"]
)
self_test_power = Gauge(
    "upkeep_self_test_power_ratio",
    "Windows in which the detectors see a known shift (newest self-test).",
    ["model", "kind", "shift"],
)
self_test_delay = Gauge(
    "upkeep_self_test_delay_rows",
    "Median rows until the watch alarms; infinite where it does not within a window.",
    ["model", "kind", "shift"],
)
blind_shifts = Gauge(
    "upkeep_blind_shifts", "Known shifts that the detectors are blind to.", ["model"]
)
accuracy = Gauge(
    "upkeep_accuracy_ratio",
    "Labelled accuracy of the champion; of numbers closeness, of spans F1 averaged over the rows.",
    ["model"],
)
error = Gauge(
    "upkeep_error",
    "What else is known of the champion's labelled answers: of numbers rmse, mae and bias, in "
    "their unit; of spans precision, recall and F1 (micro), and the share of exact rows.",
    ["model", "metric"],
)
estimated = Gauge(
    "upkeep_accuracy_estimate_ratio",
    "Accuracy of the newest rows and its 95 % interval: confidence alone, or corrected by labels.",
    ["model", "source", "bound"],
)
estimate_stands = Gauge(
    "upkeep_accuracy_estimate_stands", "0 once labels contradicted the estimate.", ["model"]
)
estimate_labels = Gauge(
    "upkeep_accuracy_estimate_labels", "Labels that tested the estimate.", ["model"]
)
harm = Gauge("upkeep_harm_ratio", "Chance that accuracy is below the floor.", ["model"])
slice_accuracy = Gauge(
    "upkeep_slice_accuracy_ratio", "Labelled accuracy of a declared slice.", ["model", "slice"]
)
slice_labels = Gauge(
    "upkeep_slice_labels", "Labelled answers of a declared slice.", ["model", "slice"]
)
slice_drifted = Gauge(
    "upkeep_slice_drifted_signals",
    "Signals that drifted within a declared slice at the newest look.",
    ["model", "slice"],
)
runs = Gauge("upkeep_training_runs", "Training runs by state.", ["model", "state"])
run_seconds = Gauge("upkeep_training_run_seconds", "Duration of the newest run.", ["model"])
run_progress = Gauge("upkeep_training_run_progress_ratio", "Of the run in flight.", ["model"])
decisions = Gauge("upkeep_decisions", "Decision records by outcome.", ["model", "outcome"])
incidents = Gauge("upkeep_open_incidents", "Incidents not resolved yet.", ["model", "kind"])
queue_depth = Gauge("upkeep_outbox_jobs", "Jobs that wait for the relay.")
processes = Gauge("upkeep_processes", "Processes that show signs of life.", ["kind"])
job_seconds = Histogram(
    "upkeep_job_seconds",
    "Time of a job in a worker.",
    ["job"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
)
jobs = Counter("upkeep_jobs", "Jobs done by a worker.", ["job", "outcome"])
lost_parts = Counter(
    "upkeep_report_parts_lost", "Parts of drift reports left out as making them failed.", ["part"]
)

ALIVE_SECONDS = 20.0
_ANEW = (
    error,
    finding,
    drift_score,
    drift_effect,
    estimated,
    estimate_stands,
    estimate_labels,
    slice_accuracy,
    slice_labels,
    slice_drifted,
    harm,
    runs,
    decisions,
    processes,
    run_progress,
    label_lag,
    label_coverage,
    incidents,
    self_test_age,
    self_test_power,
    self_test_delay,
    blind_shifts,
)


def refresh(work: UnitOfWork) -> None:
    """Set every gauge from the database, in an open transaction."""
    now = datetime.now(UTC)
    for gauge in _ANEW:
        gauge.clear()
    queue_depth.set(work.outbox.n_waiting())
    run_metrics.refresh(work)
    for process in work.plugins.alive(seconds=ALIVE_SECONDS):
        processes.labels(process["kind"]).inc()
    for broken in work.observations.violation_totals():
        violations.labels(broken["name"], broken["field"], broken["kind"]).set(broken["n"])
    for test in work.self_tests.newest():
        _refresh_self_test(test, now)
    for item in work.models.overview():
        model = item["name"]
        observations.labels(model).set(item["n_observations"])
        labels.labels(model).set(item["n_labels"])
        unchecked.labels(model).set(item["n_unchecked"])
        if item["last_checked_at"]:
            check_age.labels(model).set((now - item["last_checked_at"]).total_seconds())
        if item["champion"]:
            champion.labels(model).set(item["champion"])
            champion_age.labels(model).set((now - item["champion_since"]).total_seconds())
        for state, n in (item["runs"] or {}).items():
            runs.labels(model, state).set(n)
        for outcome, n in (item["decisions"] or {}).items():
            decisions.labels(model, outcome).set(n)
        _refresh_alarms(model, alarm_record(work, work.models.by_id(item["id"]))[0])
        _refresh_labels(model, label_lags(work, item["id"], now=now)[0])
        for kind, done in work.retention.of(item["id"]).items():
            forgotten.labels(model, kind).set(done["n_forgotten"])
        for kind, n in (item["incidents"] or {}).items():
            incidents.labels(model, kind).set(n)
        _refresh_run(model, item)
        _refresh_report(model, item)


def _refresh_self_test(test: Json, now: datetime) -> None:
    model, shifts = test["name"], test["result"]["shifts"]
    self_test_age.labels(model).set((now - test["finished_at"]).total_seconds())
    blind_shifts.labels(model).set(sum(one["is_blind"] for one in shifts))
    for one in shifts:
        self_test_power.labels(model, one["kind"], one["name"]).set(one["power"])
        if one["n_watched"]:
            delay = math.inf if one["delay_rows"] is None else one["delay_rows"]
            self_test_delay.labels(model, one["kind"], one["name"]).set(delay)


def _refresh_alarms(model: str, record: AlarmRecord) -> None:
    watched.labels(model).set(record.n_rows)
    alarms.labels(model, "confirmed").set(record.n_confirmed)
    alarms.labels(model, "refuted").set(record.n_refuted)
    alarms.labels(model, "unjudged").set(record.n_unjudged)
    for counted, n in (("refuted", record.n_refuted), ("unconfirmed", record.n_unconfirmed)):
        rate = record.rate(n)
        if rate is not None:
            alarm_rate.labels(model, counted).set(rate[0])


def _refresh_labels(model: str, lag: LabelLag) -> None:
    for quantile, seconds in (("0.5", lag.p50_seconds), ("0.95", lag.p95_seconds)):
        if seconds is not None:
            label_lag.labels(model, quantile).set(seconds)
    if lag.coverage is not None:
        label_coverage.labels(model).set(lag.coverage)


def _refresh_run(model: str, item: dict[str, object]) -> None:
    seconds, progress = item["run_seconds"], item["progress"]
    if isinstance(seconds, float):
        run_seconds.labels(model).set(seconds)
    if isinstance(progress, dict) and progress.get("total_steps"):
        run_progress.labels(model).set(progress.get("step", 0) / progress["total_steps"])


def _refresh_report(model: str, item: dict[str, object]) -> None:
    if isinstance(item["finding"], str):
        finding.labels(model, item["finding"]).set(1)
    performance, scores = item["performance"], item["scores"]
    if isinstance(performance, dict) and performance.get("accuracy") is not None:
        accuracy.labels(model).set(performance["accuracy"])
        for name, value in performance.get("errors", {}).items():
            error.labels(model, name).set(value)
    _refresh_estimate(model, item["estimate"])
    slices = item["slices"]
    for one in slices if isinstance(slices, list) else []:
        slice_labels.labels(model, one["name"]).set(one["n"])
        if one["n"]:
            slice_accuracy.labels(model, one["name"]).set(one["n_right"] / one["n"])
        if (drift := one.get("drift")) and drift["n_signals"]:
            slice_drifted.labels(model, one["name"]).set(len(drift["drifted"]))
    for score in scores if isinstance(scores, list) else []:
        if score.get("q_value") is not None:
            drift_score.labels(model, score["feature"]).set(score["q_value"])
        if score.get("effect") is not None:
            drift_effect.labels(model, score["feature"]).set(score["effect"])


def _refresh_estimate(model: str, estimate: object) -> None:
    no_estimate = {"insufficient_data", "not_estimated"}
    if not isinstance(estimate, dict) or estimate["state"] in no_estimate:
        return
    estimate_stands.labels(model).set(estimate["state"] == "stands")
    estimate_labels.labels(model).set(estimate["n_labels"])
    if estimate["harm"] is not None:
        harm.labels(model).set(estimate["harm"])
    for source in ("without_labels", "accuracy"):
        for bound in ("value", "lower", "upper"):
            if estimate[source]:
                estimated.labels(model, source, bound).set(estimate[source][bound])
