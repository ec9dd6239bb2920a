"""The images and the compose file run what the code offers."""

import argparse
import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

import app.commands
from app.config import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PORT = Settings.model_fields["port"].default
BESIDE_SETTINGS = {"UPKEEP_ALLOW_OPEN"}  # read by app.commands itself
BUILT_IN_ARGS = {"TORCH_INDEX_URL", "PYTHON_VERSION"}


def instructions() -> list[tuple[str, str, str]]:
    """(stage, instruction, arguments) of the Dockerfile, in order, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found, stage = [], ""
    for line in joined.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.partition(" AS ")[2]
        found.append((stage, word, rest.strip()))
    return found


INSTRUCTIONS = instructions()
STAGES = [stage for stage, word, _ in INSTRUCTIONS if word == "FROM"]


def lineage(stage: str) -> list[str]:
    """A stage and those it is built from."""
    parents = {s: rest.partition(" AS ")[0] for s, word, rest in INSTRUCTIONS if word == "FROM"}
    chain = [stage]
    while parents.get(chain[-1]) in STAGES:
        chain.append(parents[chain[-1]])
    return chain


def said(stage: str, word: str) -> list[str]:
    """The arguments of an instruction in a stage and those below it, its own last."""
    return [
        rest
        for each in reversed(lineage(stage))
        for s, w, rest in INSTRUCTIONS
        if (s, w) == (each, word)
    ]


def environment(stage: str) -> dict[str, str]:
    parts = [part for line in said(stage, "ENV") for part in shlex.split(line)]
    return dict(part.partition("=")[::2] for part in parts)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="upkeep", exit_on_error=False)
    app.commands.register(parser.add_subparsers(required=True))
    return parser.parse_args(arguments)


def variables(service: dict[str, Any]) -> dict[str, str]:
    return dict(service.get("environment") or {})


def is_known(variable: str) -> bool:
    name = variable.removeprefix("UPKEEP_").lower()
    return name in Settings.model_fields or variable in BESIDE_SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_the_compose_file_is_one_that_upkeep_has(name):
    assert callable(parsed(OURS[name]["command"]).run)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_every_image_starts_with_a_command_that_upkeep_has(target):
    assert json.loads(said(target, "ENTRYPOINT")[-1]) == ["upkeep"]
    assert callable(parsed(json.loads(said(target, "CMD")[-1])).run)


def test_every_process_of_the_service_has_a_container():
    commands = [service["command"] for service in OURS.values()]
    assert {command[0] for command in commands} == {"migrate", "api", "scheduler", "worker"}
    worked_on = {queue for command in commands for queue in getattr(parsed(command), "queue", [])}
    assert worked_on == set(app.commands.QUEUES)


def test_the_images_built_are_stages_of_the_dockerfile_and_each_is_built():
    built = {service["build"]["target"] for service in OURS.values()}
    assert built == {"api", "worker"}
    assert built <= set(STAGES)


def test_what_trains_runs_in_the_image_that_can():
    for service in OURS.values():
        target = "worker" if service["command"][0] == "worker" else "api"
        assert service["build"]["target"] == target


def test_the_ports_are_those_of_the_settings():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == [f"127.0.0.1:{PORT}:{PORT}"], "published on loopback alone"
    assert said("api", "EXPOSE") == [str(PORT)]
    assert f":{PORT}/healthz" in said("api", "HEALTHCHECK")[-1]


def test_a_worker_is_healthy_when_its_metrics_answer():
    port = environment("worker")["UPKEEP_METRICS_PORT"]
    assert said("worker", "EXPOSE") == [port]
    assert f":{port}/" in said("worker", "HEALTHCHECK")[-1]
    for service in OURS.values():
        assert variables(service).get("UPKEEP_METRICS_PORT", port) == port


def test_a_container_without_a_health_check_says_so():
    for service in OURS.values():
        if service["command"][0] in {"scheduler", "migrate"}:
            assert service["healthcheck"] == {"disable": True}
        else:
            assert "healthcheck" not in service


def test_every_variable_named_is_one_that_is_read():
    named = {name for target in ("api", "worker") for name in environment(target)}
    named |= {name for service in OURS.values() for name in variables(service)}
    unknown = {
        name
        for name in named
        if (name.startswith("UPKEEP_") or name.endswith("_URL")) and not is_known(name)
    }
    assert not unknown
    assert all(name in (ROOT / "app/commands.py").read_text() for name in BESIDE_SETTINGS)


@pytest.mark.parametrize("name", OURS)
def test_the_settings_accept_what_a_container_is_given(name, monkeypatch):
    given = environment(OURS[name]["build"]["target"]) | variables(OURS[name])
    for variable, value in given.items():
        if is_known(variable):
            monkeypatch.setenv(
                variable, value.replace("${POSTGRES_PASSWORD:?write it to .env}", "x")
            )
    settings = Settings()
    assert settings.log_format == "json"
    database = make_url(settings.database_url or "")
    assert database.drivername == "postgresql+psycopg"
    assert database.host in SERVICES
    assert database.username == variables(SERVICES[database.host])["POSTGRES_USER"]
    assert database.database == variables(SERVICES[database.host])["POSTGRES_DB"]
    assert (make_url(settings.redis_url or "").host or "") in SERVICES


def test_the_api_and_the_workers_share_the_folder_of_artifacts():
    home = environment("api")["UPKEEP_HOME"]
    assert home == environment("worker")["UPKEEP_HOME"]
    for name, service in OURS.items():
        if service["command"][0] in {"api", "worker"}:
            assert f"state:{home}" in service["volumes"], name
            assert variables(service)["UPKEEP_HOME"] == home


def test_every_volume_and_dependency_is_there():
    mounted = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])
    needed = {other for s in SERVICES.values() for other in s.get("depends_on", {})}
    assert needed <= set(SERVICES)


def test_what_is_waited_for_to_be_healthy_can_say_that_it_is():
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                own = "healthcheck" in SERVICES[other]
                assert own or said(SERVICES[other]["build"]["target"], "HEALTHCHECK")


def test_everything_copied_into_an_image_is_there_and_not_ignored():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    dropped = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for _, word, rest in INSTRUCTIONS:
        sources = shlex.split(rest)[:-1] if word == "COPY" else []
        if sources and sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in STAGES
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in kept, f"{source} is kept out by .dockerignore"
            assert not any(fnmatch.fnmatch(source, pattern) for pattern in dropped)


def test_the_images_hold_every_package_of_the_distribution():
    packages = {"app", "client", "migrations", "workers"}
    for stage in ("build-api", "build-worker"):
        copied = {source for rest in said(stage, "COPY") for source in shlex.split(rest)[:-1]}
        assert packages | {"constraints.txt", PROJECT["readme"]} <= copied


def test_only_the_worker_has_the_training_stack():
    extras = {
        stage: set(re.findall(r"\.\[([a-z,]+)\]", " ".join(said(stage, "RUN"))))
        for stage in ("build-api", "build-worker")
    }
    assert extras == {"build-api": set(), "build-worker": {"worker"}}
    assert "worker" in PROJECT["optional-dependencies"]
    assert "torch" not in " ".join(said("api", "RUN") + said("build-api", "RUN"))


@pytest.mark.parametrize("stage", ["build-api", "build-worker"])
def test_every_install_keeps_to_the_constraints(stage):
    installs = [rest for rest in said(stage, "RUN") if "pip install" in rest]
    assert installs
    assert all("--constraint constraints.txt" in rest for rest in installs)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_nothing_runs_as_root(target):
    (user,) = said(target, "USER")
    assert int(user) > 0
    assert f"--uid {user}" in " ".join(said(target, "RUN"))


def test_no_secret_and_no_index_is_written_down():
    assert said("build-worker", "ARG") == ['TORCH_INDEX_URL=""']
    assert "://" not in re.sub(r"http://127\.0\.0\.1:\d+", "", DOCKERFILE)
    password = variables(SERVICES["postgres"])["POSTGRES_PASSWORD"]
    assert password.startswith("${POSTGRES_PASSWORD:?")
    assert "**/.env*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_build_arguments_are_declared():
    given = {name for s in OURS.values() for name in s["build"].get("args", {})}
    declared = {rest.partition("=")[0] for _, word, rest in INSTRUCTIONS if word == "ARG"}
    assert given <= declared
    assert declared == BUILT_IN_ARGS


def test_the_image_has_the_oldest_python_that_is_supported():
    (version,) = [rest for s, word, rest in INSTRUCTIONS if word == "ARG" and not s]
    assert PROJECT["requires-python"] == f">={version.partition('=')[2]}"


def test_images_of_others_have_a_version():
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z/]+:\d+[\w.-]*", service["image"])


def test_a_training_worker_has_time_for_its_checkpoint():
    grace = OURS["worker-training"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= 60


def test_every_container_reaps_its_children():
    assert all(service["init"] is True for service in OURS.values())


def test_every_alert_names_a_metric_that_is_exposed():
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    table = (ROOT / "docs/operations.md").read_text()
    for group in alerts["groups"]:
        for rule in group["rules"]:
            for metric in re.findall(r"\bupkeep_[a-z_]+", rule["expr"]):
                assert f"`{metric}`" in table, f"{rule['alert']} reads {metric}"
