"""What does `upkeep` on the command line do?"""

import io
import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from upkeep.commands import PLUGINS, main

FRAUD = "/v1/models/fraud"
MODEL = {
    "name": "fraud",
    "task_type": "text-classification",
    "champion": 3,
    "is_paused": False,
    "watch": {
        "n_observations": 1200,
        "n_labels": 300,
        "n_unchecked_observations": 10,
        "n_unchecked_labels": 0,
        "last_checked_at": "2026-01-31T14:00:00.25+02:00",
        "is_settled": False,
    },
}
RUN = {
    "id": "r7",
    "state": "running",
    "outcome": None,
    "version": None,
    "attempt": 1,
    "queued_at": "2026-01-31T12:00:00+00:00",
    "finished_at": None,
    "progress": {"phase": "training", "step": 5, "total_steps": 80},
    "error": None,
}
DECISION = {
    "created_at": "2026-01-31T12:00:00Z",
    "outcome": "retrain",
    "trigger": "drift",
    "reason": "length_chars drifted",
}
VERSION = {
    "number": 3,
    "state": "champion",
    "origin": "trained",
    "created_at": "2026-01-31T12:00:00Z",
    "digest": "0123456789abcdef",
}


@pytest.fixture
def run(service, capsys):
    """Run a command line against the scripted service: (exit code, output, remarks)."""

    def run(*arguments, url=service.url):
        code = main(["--url", url, "--patience", "0", *arguments])
        return code, *capsys.readouterr()

    return run


def _page(*items):
    return {"items": list(items), "next_cursor": None}


def test_models_are_a_table(service, run):
    service.answers("GET", "/v1/models", _page(MODEL, {**MODEL, "name": "a", "champion": None}))
    code, out, _ = run("models")
    assert code == 0
    assert out.splitlines() == [
        "model  task type            champion  paused  settled  observations  labels",
        "fraud  text-classification         3  no      no               1200     300",
        "a      text-classification         -  no      no               1200     300",
    ]


@pytest.mark.parametrize("labels", [["no", "yes"], []])
def test_a_model_is_created_with_labels_or_without(service, run, labels):
    service.answers("POST", "/v1/models", MODEL)
    line = ["create", "fraud", "--task-type", "text-generation", "--base-model", "/models/base"]
    code, out, _ = run(*line, *(["--labels", *labels] if labels else []))
    assert (code, out) == (0, "created fraud\n")
    assert service.seen[-1].json["labels"] == labels


def test_nothing_yet_is_said_in_words(service, run):
    service.answers("GET", "/v1/models", _page())
    assert run("models") == (0, "no models yet\n", "")


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_program_gets_the_documents_as_they_are(service, run, place):
    service.answers("GET", "/v1/models", _page(MODEL))
    line = ["--json", "models"] if place == "before" else ["models", "--json"]
    code, out, _ = run(*line)
    assert (code, json.loads(out)) == (0, [MODEL])


def test_a_status_tells_what_was_last_decided_and_run(service, run):
    service.answers("GET", FRAUD, MODEL)
    service.answers("GET", f"{FRAUD}/runs", _page(RUN))
    service.answers("GET", f"{FRAUD}/decisions", _page(DECISION))
    code, out, _ = run("status", "fraud")
    facts = dict(line.split("  ", 1) for line in out.splitlines())
    facts = {name: value.strip() for name, value in facts.items()}
    assert code == 0
    assert facts["champion"] == "3"
    assert facts["last checked"] == "2026-01-31 12:00:00Z"
    assert facts["not yet checked"] == "10 observations, 0 labels"
    assert facts["last decision"] == "retrain: length_chars drifted"
    assert facts["last run"] == "run r7 running, training 5/80"


def test_lists_are_tables(service, run):
    service.answers("GET", f"{FRAUD}/runs", _page(RUN))
    service.answers("GET", f"{FRAUD}/versions", _page(VERSION))
    service.answers("GET", f"{FRAUD}/decisions", _page(DECISION))
    assert "r7   running" in run("runs", "fraud", "--limit", "1")[1]
    assert "champion  trained  2026-01-31 12:00:00Z  0123456789ab" in run("versions", "fraud")[1]
    assert "retrain  drift    length_chars drifted" in run("decisions", "fraud")[1]
    assert service.seen[0].query["limit"] == "1"


@pytest.fixture
def rows_file(tmp_path):
    def write(text):
        path = tmp_path / "rows.ndjson"
        path.write_text(text)
        return str(path)

    return write


TAKEN = {"accepted": 2, "duplicates": 0, "unchanged": 0, "rejected": []}


def test_a_file_of_observations_is_logged(service, run, rows_file):
    service.answers("POST", f"{FRAUD}/observations", TAKEN)
    code, out, _ = run("log", "fraud", rows_file('{"inputs": {}, "id": "a"}\n\n{"inputs": {}}\n'))
    assert (code, out) == (0, "2 observations stored, 0 known already, 0 rejected\n")
    assert len(service.seen[0].json["observations"]) == 2


def test_the_standard_input_is_a_file_too(service, run, monkeypatch):
    service.answers("POST", f"{FRAUD}/labels", TAKEN)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"id": "a", "label": "spam"}\n'))
    code, out, _ = run("label", "fraud", "-", "--json")
    assert code == 0
    assert json.loads(out) == {"accepted": 2, "known": 0, "rejected": [], "ids": ["a"]}
    assert service.seen[0].json == {"labels": [{"id": "a", "label": "spam"}]}


def test_rejected_rows_are_told_and_are_a_failure(service, run, rows_file):
    rejected = [{"index": 0, "id": None, "errors": [{"pointer": "/inputs", "detail": "no"}]}]
    service.answers("POST", f"{FRAUD}/observations", {**TAKEN, "rejected": rejected * 12})
    code, _, remarks = run("log", "fraud", rows_file("{}\n" * 12))
    assert code == 1
    assert remarks.splitlines()[0] == "row 0: /inputs no"
    assert remarks.splitlines()[-1] == "... and 2 more"


@pytest.mark.parametrize("text", ["{", "[1]", '{"inputs": NaN}', "nonsense"])
def test_a_file_of_something_else_makes_no_sense(run, rows_file, text):
    code, _, remarks = run("log", "fraud", rows_file(text))
    assert code == 2
    assert "line 1 of" in remarks


@pytest.mark.parametrize("command", ["log", "label"])
def test_a_file_that_is_not_there_makes_no_sense(run, command):
    code, _, remarks = run(command, "fraud", "/nowhere/rows.ndjson")
    assert code == 2
    assert "cannot read /nowhere/rows.ndjson" in remarks


def test_a_dataset_is_uploaded_by_the_kind_of_its_file(service, run, tmp_path):
    done = {"id": "d", "n_rows": 5, "n_rejected": 0, "rejected": []}
    service.answers("POST", f"{FRAUD}/datasets", done)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    path = str(tmp_path / "rows.parquet")
    code, out, _ = run("upload", "fraud", path, "--role", "training")
    assert (code, out) == (0, "dataset d: 5 rows, 0 rejected\n")
    assert service.seen[0].headers["content-type"] == "application/vnd.apache.parquet"
    assert run("upload", "fraud", "/nowhere", "--role", "training")[0] == 2


def _checked(service, state, **more):
    check = {"id": "c", "state": state, "report": None, "decision": None, "error": None, **more}
    service.answers("POST", f"{FRAUD}/checks", {**check, "state": "queued"})
    service.answers("GET", f"{FRAUD}/checks/c", check)


def test_a_check_says_what_it_found_and_decided(service, run):
    _checked(service, "completed", report="p", decision="d")
    scores = [{"feature": "length_chars", "drifted": True}, {"feature": "x", "drifted": False}]
    service.answers("GET", f"{FRAUD}/reports/p", {"finding": "drift", "scores": scores})
    service.answers("GET", f"{FRAUD}/decisions/d", DECISION)
    code, out, _ = run("check", "fraud")
    assert code == 0
    assert out.splitlines() == [
        "check c completed",
        "finding: drift length_chars",
        "decision: retrain: length_chars drifted",
    ]


def test_a_failed_check_is_a_failure(service, run):
    _checked(service, "failed", error={"detail": "the report could not be computed"})
    code, _, remarks = run("check", "fraud")
    assert (code, remarks) == (1, "upkeep: the report could not be computed\n")


def test_a_wish_to_retrain_names_its_run(service, run):
    service.answers("POST", f"{FRAUD}/retrain", RUN)
    line = ["retrain", "fraud", "--reason", "drift", "--from", "base", "--idempotency-key", "k"]
    assert run(*line) == (0, "run r7 running, training 5/80\n", "")
    assert service.seen[0].json == {"reason": "drift", "start_from": "base"}
    assert service.seen[0].headers["idempotency-key"] == "k"


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_the_end_of_a_run_is_the_exit_code_of_its_wait(service, run, state, code):
    end = {**RUN, "state": state, "version": 4, "outcome": "promoted"}
    service.answers("GET", f"{FRAUD}/runs/r7", RUN, end)
    found, out, remarks = run("wait", "fraud", "r7")
    assert found == code
    assert out == f"run r7 {state}, training 5/80, version 4 promoted\n"
    assert remarks.splitlines()[0] == "run r7 running, training 5/80"


def test_a_wait_given_up_is_a_failure(service, run):
    service.answers("GET", f"{FRAUD}/runs/r7", RUN)
    code, _, remarks = run("wait", "fraud", "r7", "--timeout", "0.05")
    assert code == 1
    assert "run r7 is not over" in remarks


@pytest.mark.parametrize(
    ("line", "path", "body"),
    [
        (
            ["promote", "fraud", "4", "--reason", "better", "--judged-against", "3"],
            "versions/4/promote",
            {"reason": "better", "force": False, "judged_against": 3},
        ),
        (["rollback", "fraud", "--reason", "bad", "--to", "2"], "rollback", {"to": 2}),
        (["pause", "fraud", "--reason", "holiday"], "pause", {"reason": "holiday"}),
        (["resume", "fraud", "--reason", "back"], "resume", {"reason": "back"}),
    ],
)
def test_each_move_is_told_to_the_service(service, run, line, path, body):
    service.answers("POST", f"{FRAUD}/{path}", {"number": 4})
    code, out, _ = run(*line)
    assert code == 0
    assert "fraud is" in out or "of fraud" in out
    assert body.items() <= service.seen[0].json.items()


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["nonsense"],
        ["status"],
        ["promote", "fraud", "four", "--reason", "x"],
        ["retrain", "fraud"],
        ["upload", "fraud", "x", "--role", "test"],
        ["--url"],
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(run, line):
    assert run(*line)[0] == 2


def test_a_refusal_is_told_in_one_line(service, run, refuse):
    service.answers("GET", FRAUD, refuse(404, "there is no model 'fraud'"))
    assert run("status", "fraud") == (1, "", "upkeep: there is no model 'fraud'\n")


def test_a_service_that_is_not_there_is_told_in_one_line(run, unused_url):
    code, out, remarks = run("models", url=unused_url)
    assert (code, out) == (1, "")
    assert remarks.startswith(f"upkeep: no answer from {unused_url} to GET /v1/models")


def test_the_environment_names_service_and_key(service, capsys, monkeypatch):
    monkeypatch.setenv("UPKEEP_URL", service.url)
    monkeypatch.setenv("UPKEEP_KEY", "secret-1")
    service.answers("GET", "/v1/models", _page())
    assert main(["models"]) == 0
    assert service.seen[0].headers["authorization"] == "Bearer secret-1"
    assert "secret-1" not in "".join(capsys.readouterr())


def test_the_audit_learns_who_ran_the_command(service, run, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    service.answers("GET", "/v1/models", _page())
    run("models")
    assert service.seen[0].headers["x-actor"] == "ada"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with a plug-in, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{PLUGINS}]\n{name} = {name}:register\n")

    return install


GREETING = """
def register(subparsers):
    parser = subparsers.add_parser("greet", help="say hello")
    parser.add_argument("name")
    parser.set_defaults(run=lambda args: print("hello", args.name) or len(args.name))
"""


def test_a_command_of_another_distribution_is_run(install, run):
    install("greeting_plugin", GREETING)
    code, out, remarks = run("greet", "ada")
    assert (code, out) == (3, "hello ada\n")
    assert "greeting_plugin" not in remarks


@pytest.mark.parametrize(
    "source",
    [
        "import a_module_that_is_not_there",
        "def register(subparsers): raise RuntimeError('broken')",
        "def register(subparsers): subparsers.add_parser('status')",
        "nothing = 1",
        "raise SystemExit('no')",
    ],
    ids=["import", "register", "taken-name", "attribute", "exit"],
)
def test_a_broken_plug_in_is_warned_of_and_hurts_no_other(install, run, source):
    install("broken_plugin", source)
    install("greeting_plugin", GREETING)
    code, out, remarks = run("greet", "ada")
    assert (code, out) == (3, "hello ada\n")
    assert "warning: the commands of broken_plugin" in remarks


def test_a_broken_plug_in_is_not_even_loaded_for_our_own_commands(install, service, run):
    install("broken_plugin", "raise SystemExit('never')")
    service.answers("GET", "/v1/models", _page())
    assert run("models") == (0, "no models yet\n", "")


def test_a_plug_in_that_adds_a_command_without_a_run_makes_no_sense_alone(install, run):
    install("halfway_plugin", "def register(s): s.add_parser('half')")
    code, _, remarks = run("half")
    assert code == 2
    assert "half is not fully installed" in remarks


def test_the_command_runs_as_a_process_of_its_own(service):
    service.answers("GET", "/v1/models", _page(MODEL))
    line = [sys.executable, "-W", "error", "-m", "upkeep.commands", "--url", service.url, "models"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fraud" in done.stdout


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(service):
    service.answers("GET", "/v1/models", _page(*[MODEL] * 5000))
    command = (
        f"{sys.executable} -m upkeep.commands --url {service.url} models --limit 5000 | head -1"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("model ")
    assert done.stderr == ""


def test_the_client_needs_neither_torch_nor_pillow_nor_numpy():
    code = (
        "import sys, upkeep, upkeep.commands; "
        "print([m for m in ('torch', 'transformers', 'PIL', 'numpy', 'app', 'workers') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_entry_point_group_is_the_one_the_server_plugs_into():
    assert "server" in {point.name for point in entry_points(group=PLUGINS)}
