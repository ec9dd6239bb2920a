"""Every knob of the service: unit, default, bounds; read once and passed on."""

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings from the environment, with the prefix `UPKEEP_`.

    Attributes:
        database_url: `postgresql+psycopg://...`; `DATABASE_URL` is read too. None = embedded.
        redis_url: `redis://...` or `unix://...`; `REDIS_URL` is read too. None = embedded.
        home: where embedded servers, artifacts and work folders live; None = chosen by `up`.
        artifacts: folder of model files, addressed by hash; None = `home`/artifacts.
        host, port: where the API listens.
        metrics_port: where a worker serves /metrics; 0 = nowhere.
        lease_seconds: a job whose worker is silent for so long is given to another.
        heartbeat_seconds: between two signs of life of a worker.
        tick_seconds: the scheduler's rhythm.
        resend_seconds: a job that nobody picked up for so long is sent again.
        maximum_body_bytes: of one request.
        maximum_streams: that follow runs, of one API process.
        threads: of one training process; None = the real CPU quota.
        gpus_of_a_run: that each run on GPUs has to itself; the same for all workers of a machine.
        fork_server: whether runs on the CPU are forked from a process that has loaded torch.
        cpu_watts: of one busy core, by which the energy of runs is estimated.
        gpu_watts: of one GPU at work, where nothing measures it; None = unknown.
        cpu_cost_per_hour, gpu_cost_per_hour: of one core, of one GPU; None = no price.
        grid_grams_per_kwh: carbon dioxide of the electricity; None = unknown.
        log_format: "console" for people, "json" for machines.
    """

    model_config = SettingsConfigDict(
        env_prefix="UPKEEP_", frozen=True, populate_by_name=True, extra="ignore"
    )

    database_url: Annotated[
        str | None,
        Field(validation_alias=AliasChoices("UPKEEP_DATABASE_URL", "DATABASE_URL")),
    ] = None
    redis_url: Annotated[
        str | None, Field(validation_alias=AliasChoices("UPKEEP_REDIS_URL", "REDIS_URL"))
    ] = None
    home: Path | None = None
    artifacts: Path | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8321
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    lease_seconds: Annotated[float, Field(gt=1, le=3600)] = 15.0
    heartbeat_seconds: Annotated[float, Field(gt=0.1, le=600)] = 5.0
    tick_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    resend_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    maximum_body_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024 * 1024
    maximum_streams: Annotated[int, Field(ge=1)] = 100
    threads: Annotated[int | None, Field(ge=1)] = None
    gpus_of_a_run: Annotated[int, Field(ge=1, le=64)] = 1
    fork_server: bool = True
    cpu_watts: Annotated[float, Field(ge=0, le=1000)] = 10.0
    gpu_watts: Annotated[float | None, Field(ge=0, le=10_000)] = None
    cpu_cost_per_hour: Annotated[float | None, Field(ge=0)] = None
    gpu_cost_per_hour: Annotated[float | None, Field(ge=0)] = None
    grid_grams_per_kwh: Annotated[float | None, Field(ge=0, le=5000)] = None
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "console"

    def state_directory(self) -> Path:
        """Return the folder that holds this installation's state."""
        return self.home or Path.cwd() / ".upkeep"

    def artifacts_directory(self) -> Path:
        """Return the folder of model files."""
        return self.artifacts or self.state_directory() / "artifacts"

    def work_directory(self) -> Path:
        """Return the folder in which training runs keep their checkpoints."""
        return self.state_directory() / "runs"
