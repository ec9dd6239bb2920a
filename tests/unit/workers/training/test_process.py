"""The process of a run finds what it is to do, or says why it cannot."""

import json
from pathlib import Path

import pytest

from app.domain.errors import UnknownName
from workers.training.process import find_task_type, main


def test_a_directory_without_a_job_is_refused(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
    assert json.loads((tmp_path / "error.json").read_text())["type"] == "/problems/invalid-recipe"


def test_task_types_are_found_by_name() -> None:
    assert find_task_type("text-classification").name == "text-classification"
    with pytest.raises(UnknownName, match="image-classification"):
        find_task_type("telepathy")
