"""Where does a program that uses Upkeep begin?"""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

from upkeep.documents import AuditDocument, ModelDocument, TaskTypeDocument
from upkeep.model import Model
from upkeep.paging import every
from upkeep.retrying import Retries
from upkeep.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8321"


class Upkeep:
    """One Upkeep service; safe to share between threads, and best used in a `with`.

    Args:
        base_url: where it listens.
        key: an API key; None for a service without keys, which listens on loopback only.
        timeout_seconds: how long one attempt may wait for the service.
        retries: how often and how long to try again when the service is away.
        actor: who the audit names while the service has no keys.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        retries: Retries | None = None,
        actor: str | None = None,
    ) -> None:
        self.transport = Transport(
            base_url,
            key=key,
            actor=actor,
            timeout_seconds=timeout_seconds,
            retries=retries or Retries(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def model(self, name: str) -> Model:
        """Return a handle on a model, whether or not it is there yet."""
        return Model(self.transport, name)

    def models(self, *, limit: int | None = None) -> Iterator[ModelDocument]:
        """Yield every model, page by page."""
        return every(self.transport, "/v1/models", limit=limit)

    def create_model(
        self,
        name: str,
        *,
        task_type: str,
        base_model: str,
        labels: Sequence[str] = (),
        target: Mapping[str, Any] | None = None,
        input_contract: Mapping[str, Any] | None = None,
        objective: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Model:
        """Register a model to be maintained; return its handle.

        A service whose workers are still starting is waited for, within the client's patience.

        Args:
            name: what it is called in every URL.
            task_type: one of `task_types()`, such as "text-classification".
            base_model: what a run without a champion starts from.
            labels: every class, or every label of a span; none where answers are numbers or
                texts.
            target: {"unit", "min", "max", "scale"} of a model that answers with numbers.
            input_contract: {"fields": [...]}; None = the task type's own.
            objective: {"metric", "margin", "slices", "baseline"}; None = the task type's first
                metric, such as accuracy.
            policy: what differs from the default policy.

        Raises:
            Conflict: the name is taken.
            Invalid: an unknown task type, or a document that makes no sense.
        """
        stated = {
            "target": target,
            "input_contract": input_contract,
            "objective": objective,
            "policy": policy,
        }
        self.transport.post(
            "/v1/models",
            {
                "name": name,
                "task_type": task_type,
                "base_model": base_model,
                "labels": list(labels),
                **{key: value for key, value in stated.items() if value is not None},
            },
        )
        return self.model(name)

    def task_types(self) -> list[TaskTypeDocument]:
        """Return the kinds of learning that workers have announced."""
        return cast("list[TaskTypeDocument]", self.transport.get("/v1/task-types")["items"])

    def audit(
        self, *, model: str | None = None, limit: int | None = None
    ) -> Iterator[AuditDocument]:
        """Yield who did what, newest first, page by page; of one model if it is named."""
        return every(self.transport, "/v1/audit", query={"model": model}, limit=limit)

    def readiness(self) -> dict[str, Any]:
        """Return whether the service and each of its dependencies is ready.

        Raises:
            Unavailable: it cannot work at all, or there is no answer; asked once.
        """
        answer = self.transport.send("GET", "/readyz", retries=Retries(patience_seconds=0.0))
        return cast("dict[str, Any]", answer.json())
