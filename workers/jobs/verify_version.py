"""The job that loads an imported version once, as proof that it can be."""

from uuid import UUID

import numpy as np
import structlog
from celery import shared_task

from app.domain.errors import UpkeepError
from app.services import versions
from workers.jobs.champions import loaded
from workers.jobs.context import current
from workers.jobs.evaluate import scores_of
from workers.training.metrics import summarise
from workers.training.task_type import ReadsColumns

log = structlog.get_logger()


@shared_task(name="upkeep.verify_version")
def verify_version(version_id: str) -> None:
    """Load, try on the reference, record."""
    context = current()
    work = context.open_work()
    found = versions.to_verify(work, context.artifacts, UUID(version_id))
    if found is None:
        return
    model = found.model
    try:
        classifier = loaded(model, found.version)
        labels = classifier.labels
        if isinstance(classifier, ReadsColumns):
            kept = {field.name for field in model.contract.fields if field.privacy is None}
            unknown = [name for name in classifier.column_names if name not in kept]
            if unknown:
                reason = (
                    f"it reads the columns {', '.join(unknown)}, which the model's input contract "
                    "does not have or does not keep"
                )
                versions.refuse(work, found.version.id, reason)
                return
        if set(labels) != set(model.labels):
            theirs, ours = ", ".join(labels), ", ".join(model.labels)
            reason = f"its labels are {theirs}, but the model's are {ours}"
            versions.refuse(work, found.version.id, reason)
            return
        metrics = {}
        if found.reference:
            index = {label: position for position, label in enumerate(model.labels)}
            truth = np.asarray([index[row.label] for row in found.reference])
            scores = scores_of(model, found.version, [row.inputs for row in found.reference])
            metrics = summarise(truth, scores, model.labels)
    except Exception as error:  # a file from outside may fail in any way
        log.exception("model_version.refused", version_id=version_id)
        detail = str(error) if isinstance(error, UpkeepError) else repr(error)
        versions.refuse(work, found.version.id, f"it could not be loaded: {detail}")
        return
    version = versions.verified(work, found, metrics)
    log.info("model_version.verified", version_id=version_id, state=version.state)
