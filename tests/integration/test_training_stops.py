"""A training process stops in every phase it can be in, soon, and loses nothing it had."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.runs_support import KINDS, Process, lay_out, start, texts, write_rows
from tests.integration.test_training_process import FORK_SERVER, run, weights
from workers.training import checkpoints
from workers.training.supervise import StopReason, run_process

SOON_SECONDS = 10.0
N_ROWS = 3000
SLOW = {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 256}


def job(directory: Path, **changes: Any) -> Path:
    """Lay out a run of which every phase takes a while."""
    path = directory.with_name(f"{directory.name}.parquet")
    directory.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, texts(N_ROWS))
    recipe = {"epochs": 1, "head": "probe", "token_budget": 2048, **changes.pop("recipe", {})}
    made = lay_out(
        directory,
        KINDS["text"],
        path,
        recipe=recipe,
        validation=str(path),
        checkpoint_every_seconds=3600,
        **changes,
    )
    base = directory.with_name(f"{directory.name}-base") / "config.json"
    base.write_text(json.dumps({**json.loads(base.read_text()), **SLOW}))
    return made


def lines_of(process: Process) -> Iterator[dict[str, Any]]:
    """Yield what a process says until it ends."""
    while process.child.poll() is None:
        yield from process.lines()
        time.sleep(0.005)


def stopped_at(process: Process, phase: str) -> tuple[int, float]:
    """Send SIGTERM at the first line of a phase; return exit status and seconds until the end."""
    for line in lines_of(process):
        if line["phase"] == phase:
            break
    else:
        raise AssertionError(f"it ended with {process.child.returncode} before {phase}")
    process.child.signal(signal.SIGTERM)
    asked = time.monotonic()
    process.end()
    return process.child.returncode, time.monotonic() - asked


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    outcome, _ = run(job(tmp_path_factory.mktemp("whole") / "job"))
    return weights(outcome)


@pytest.mark.parametrize("phase", ["prepare", "probe", "evaluate", "train"])
def test_sigterm_in_any_phase_ends_it_soon_and_it_goes_on_to_the_same_bits(
    tmp_path: Path, whole: str, phase: str
) -> None:
    directory = job(tmp_path / "job")
    status, seconds = stopped_at(start(directory, FORK_SERVER), phase)

    assert status == 75
    assert seconds < SOON_SECONDS
    assert (checkpoints.latest(directory) is None) == (phase == "prepare")
    assert not (directory / "result.json").exists()
    outcome, _ = run(directory)
    assert weights(outcome) == whole


def test_sigterm_while_the_version_is_written_lets_it_be_finished(
    tmp_path: Path, whole: str
) -> None:
    directory = job(tmp_path / "job")
    status, seconds = stopped_at(start(directory, FORK_SERVER), "save")

    assert status == 0
    assert seconds < SOON_SECONDS
    outcome, _ = run(directory)
    assert weights(outcome) == whole


@pytest.mark.parametrize("phase", ["probe", "save"])  # between them, SIGTERM above
def test_a_cancelled_run_is_gone_within_ten_seconds_in_any_phase(
    tmp_path: Path, phase: str
) -> None:
    directory, said, asked = job(tmp_path / "job"), [], []

    def should_stop() -> StopReason | None:
        if said and said[-1] == phase:
            asked.append(time.monotonic())
            return "cancel"
        return None

    outcome = run_process(
        directory,
        on_progress=lambda line: said.append(line["phase"]),
        should_stop=should_stop,
        poll_seconds=0.01,
        fork_server=FORK_SERVER,
    )

    assert outcome.kind == "cancelled"
    assert time.monotonic() - asked[0] < SOON_SECONDS


def test_a_cancelled_process_that_hears_nothing_is_killed(tmp_path: Path) -> None:
    directory, frozen = job(tmp_path / "job"), []

    def should_stop() -> StopReason | None:
        return "cancel" if frozen else None

    def freeze(line: dict[str, Any]) -> None:
        if not frozen and line["phase"] == "probe":
            only_run().suspend()
            frozen.append(time.monotonic())

    outcome = run_process(
        directory,
        on_progress=freeze,
        should_stop=should_stop,
        poll_seconds=0.05,
        fork_server=FORK_SERVER,
    )

    assert (outcome.kind, outcome.exit_code) == ("cancelled", -signal.SIGKILL)
    assert time.monotonic() - frozen[0] < SOON_SECONDS


def only_run() -> psutil.Process:
    """Return the one run that the fork server has become and that has not ended."""
    (run_of_ours,) = psutil.Process(FORK_SERVER.pid).children()
    return run_of_ours


def test_a_process_that_hears_nothing_is_stopped_after_its_deadline(tmp_path: Path) -> None:
    directory, frozen = job(tmp_path / "job", deadline_seconds=2.0), []

    def freeze(line: dict[str, Any]) -> None:
        if not frozen:
            only_run().suspend()
            frozen.append(True)

    outcome = run_process(
        directory,
        on_progress=freeze,
        should_stop=lambda: None,
        poll_seconds=0.05,
        grace_seconds=0.5,
        fork_server=FORK_SERVER,
    )

    assert outcome.kind == "failed"
    assert outcome.error is not None
    assert outcome.error["type"] == "/problems/deadline-exceeded"


@pytest.mark.parametrize("phase", ["probe", "train"])
def test_the_deadline_holds_in_any_phase(tmp_path: Path, phase: str) -> None:
    directory = job(tmp_path / "job", deadline_seconds=3600.0)
    process = start_with_deadline_at(directory, phase)

    assert process == 1
    error = json.loads((directory / "error.json").read_text())
    assert error["type"] == "/problems/deadline-exceeded"


AT_PHASE = """
import sys
from pathlib import Path
from workers.training import process, progress

say, phase = progress.Progress.say, sys.argv[2]
stops = []
listen = progress.Stop.listen

def listened(self):
    stops.append(self)
    listen(self)

def said(self, now, **fields):
    if now == phase:
        stops[0]._deadline_seconds = 1e-9  # the time is up from this line on
    say(self, now, **fields)

progress.Progress.say, progress.Stop.listen = said, listened
sys.exit(process.main([sys.argv[1]]))
"""


def start_with_deadline_at(directory: Path, phase: str) -> int:
    """Run a job whose time is up once it says a phase; return its exit status."""
    command = [sys.executable, "-c", AT_PHASE, str(directory), phase]
    with (directory / "process.log").open("ab") as log:
        return subprocess.run(command, check=False, stdout=log, stderr=log, timeout=300).returncode
