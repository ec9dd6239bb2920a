"""Which object asks, judges and watches the versions of a model?"""

from collections.abc import Mapping
from typing import Final

from app.domain.answers import CLASS, NUMBER, SPANS, TEXT
from app.domain.models import MaintainedModel
from workers.jobs.answering import Kind
from workers.jobs.class_answers import ClassAnswers
from workers.jobs.number_answers import NumberAnswers
from workers.jobs.span_answers import SpanAnswers
from workers.jobs.text_answers import TextAnswers
from workers.task_types import task_types
from workers.training.task_type import answers_of

KINDS: Final[Mapping[str, Kind]] = {
    CLASS: ClassAnswers(),
    NUMBER: NumberAnswers(),
    SPANS: SpanAnswers(),
    TEXT: TextAnswers(),
}


def kind_of(model: MaintainedModel) -> Kind:
    """Return the one for a model's kind of answer."""
    return KINDS[answers_of(task_types.get(model.task_type))]
