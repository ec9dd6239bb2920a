"""What versions that write are held to."""

from types import SimpleNamespace
from typing import Any

import pytest

from workers.jobs.text_answers import TextAnswers


@pytest.mark.parametrize(("metric", "expected"), [("exact_match", 0.5), ("chrf", 1.0)])
def test_the_commonest_text_is_exact_only_where_its_blanks_are(
    metric: str, expected: float
) -> None:
    def rows(*labels: str) -> Any:
        return [SimpleNamespace(label=label) for label in labels]

    found: Any = SimpleNamespace(
        model=SimpleNamespace(objective=SimpleNamespace(metric=metric)),
        snapshot=SimpleNamespace(train=rows(" yes", " yes", " no")),
    )
    assert TextAnswers().baseline(found, rows(" yes", "yes")) == expected
