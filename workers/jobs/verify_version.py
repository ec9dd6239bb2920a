"""The job that loads an imported version once, as proof that it can be."""

from uuid import UUID

import structlog
from celery import shared_task

from app.domain.errors import UpkeepError
from app.services import versions
from workers.jobs.champions import loaded
from workers.jobs.context import current
from workers.jobs.kinds import kind_of
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
        kind, classifier = kind_of(model), loaded(model, found.version)
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
        misfit = kind.misfit(model, classifier)
        if misfit is not None:
            versions.refuse(work, found.version.id, misfit)
            return
        metrics = {}
        if found.reference:
            settled = kind.settled(model, found.reference)
            metrics = kind.summarised(settled, found.version, found.reference)
    except Exception as error:  # a file from outside may fail in any way
        log.exception("model_version.refused", version_id=version_id)
        detail = str(error) if isinstance(error, UpkeepError) else repr(error)
        versions.refuse(work, found.version.id, f"it could not be loaded: {detail}")
        return
    version = versions.verified(work, found, metrics)
    log.info("model_version.verified", version_id=version_id, state=version.state)
