"""The supervising side stays free of the training stack."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.training.supervise import Outcome, memory_kills, problem


def test_supervision_and_the_protocol_import_no_training_stack() -> None:
    code = (
        "import sys, workers.training.supervise, workers.training.task_type, workers.task_types;"
        "print([m for m in ('torch', 'transformers', 'safetensors') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_kills_for_memory_are_read_from_the_kernel(tmp_path: Path) -> None:
    assert memory_kills() >= 0
    assert memory_kills(tmp_path) == 0
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 3\ndrop_pagecache 0\n")
    assert memory_kills(tmp_path) == 3


@pytest.mark.parametrize(
    ("kind", "error", "is_for_memory"),
    [
        ("killed", problem("out-of-memory", "", ""), True),
        ("killed", problem("killed", "", ""), False),
        ("failed", problem("out-of-memory", "", ""), False),
        ("preempted", None, False),
    ],
)
def test_only_a_kill_by_the_kernel_counts_as_one_for_memory(kind, error, is_for_memory):  # type: ignore[no-untyped-def]  # literals
    assert Outcome(kind, None, error, -signal.SIGKILL).is_for_memory == is_for_memory
