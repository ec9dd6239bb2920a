"""What came of a model's alarms of drift, beside what its policy promises."""

from app.domain.alarms import AlarmRecord
from app.domain.models import MaintainedModel
from app.services.policies import read_policy
from app.services.ports import Json, UnitOfWork


def alarm_record(work: UnitOfWork, model: MaintainedModel) -> tuple[AlarmRecord, Json]:
    """Return the alarms of a model, and since when and in how many reports, in a transaction."""
    policy = read_policy(model.policy)
    found = work.checks.alarms(model.id, enough_labels=policy.performance.minimum_labels)
    record = AlarmRecord(
        n_rows=int(found["n_rows"]),
        n_alarms=found["n_alarms"],
        n_confirmed=found["n_confirmed"],
        n_refuted=found["n_refuted"],
        promised_rows=policy.check.false_alarm_rows,
    )
    return record, {"since": found["since"], "n_reports": found["n_reports"]}


def shown(work: UnitOfWork, model: MaintainedModel) -> Json:
    """Return the alarms of a model for a reader, in an open transaction."""
    record, span = alarm_record(work, model)
    rates = {"refuted": record.n_refuted, "unconfirmed": record.n_unconfirmed}
    return {
        **span,
        "n_rows": record.n_rows,
        "n_alarms": record.n_alarms,
        "n_confirmed": record.n_confirmed,
        "n_refuted": record.n_refuted,
        "n_unjudged": record.n_unjudged,
        "promised_rows": record.promised_rows,
        "rates": {
            name: None
            if (rate := record.rate(count)) is None
            else {"per_promised_rows": rate[0], "lower": rate[1], "upper": rate[2]}
            for name, count in rates.items()
        },
    }
