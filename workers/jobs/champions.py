"""Versions laid out on this worker's disk and loaded once, newest few kept."""

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from app.domain.models import MaintainedModel
from app.domain.versions import ModelVersion
from workers.jobs.context import current
from workers.task_types import task_types

KEPT: Final = 4
_loaded: OrderedDict[str, Any] = OrderedDict()


def loaded(model: MaintainedModel, version: ModelVersion) -> Any:
    """Return a version ready to answer, verified by digest when it was laid out.

    A `Classifier`, `Regressor`, `Tagger` or `TextWriter`, as the model's kind of answer has it.
    """
    if version.digest in _loaded:
        _loaded.move_to_end(version.digest)
        return _loaded[version.digest]
    classifier = task_types.get(model.task_type).load(laid_out(version))
    _loaded[version.digest] = classifier
    while len(_loaded) > KEPT:
        _loaded.popitem(last=False)
    return classifier


def laid_out(version: ModelVersion) -> Path:
    """Return a folder with a version's files, each verified; made whole or not at all."""
    context = current()
    place = context.work_directory / "versions" / version.digest
    if place.exists():
        return place
    spare = place.with_name(f"{version.digest}.tmp-{uuid4().hex}")
    spare.mkdir(parents=True)
    try:
        context.artifacts.checkout(version.files, spare)
        spare.rename(place)
    except FileExistsError:
        shutil.rmtree(spare)
    except OSError:
        shutil.rmtree(spare, ignore_errors=True)
        if not place.exists():
            raise
    return place
