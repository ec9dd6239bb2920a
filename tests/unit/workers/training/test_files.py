"""Files are whole, and artifacts hold no code."""

import json
from pathlib import Path

import pytest

from app.domain.errors import UnsafeArtifact
from workers.training.errors import RecipeError
from workers.training.files import (
    check_artifact,
    describe,
    is_as_described,
    read_json,
    replace_directory,
    write_json,
)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "head.pkl", "modeling.py", "a.joblib"])
def test_a_directory_with_a_file_that_could_run_code_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsafeArtifact, match=name):
        check_artifact(tmp_path)


def test_a_config_that_names_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(UnsafeArtifact, match="auto_map"):
        check_artifact(tmp_path)


def test_a_directory_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"config\.json"):
        check_artifact(tmp_path)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    files = describe(tmp_path)
    assert is_as_described(tmp_path, files)
    (tmp_path / "a").write_text("two")
    assert not is_as_described(tmp_path, files)


def test_a_missing_or_broken_json_reads_as_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "a") is None
    (tmp_path / "a").write_text("{")
    assert read_json(tmp_path / "a") is None


def test_writing_json_leaves_no_draft(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_finished_directory_replaces_an_older_one(tmp_path: Path) -> None:
    for name, content in (("draft", "new"), ("target", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    replace_directory(tmp_path / "draft", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
