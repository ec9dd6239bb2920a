"""How is a model told to do something, and how is the end of it waited for?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast
from uuid import uuid4

from upkeep.documents import (
    CheckDocument,
    IncidentDocument,
    ModelDocument,
    Policy,
    ReferenceDocument,
    RunChangeDocument,
    RunDocument,
    VersionDocument,
)
from upkeep.following import changes
from upkeep.reading import Reading
from upkeep.transport import to_json
from upkeep.waiting import Pace, wait_until

RUN_ENDS: Final = frozenset({"succeeded", "failed", "cancelled"})
CHECK_ENDS: Final = frozenset({"completed", "failed"})
MERGE_PATCH: Final = "application/merge-patch+json"


class Steering(Reading):
    """The part of a model's handle that asks for something to be done.

    Attributes:
        pace: how often a wait looks.
    """

    pace = Pace()

    def check(self, *, wait: bool = True, timeout_seconds: float | None = 600.0) -> CheckDocument:
        """Look at what came in: measure drift and performance, decide.

        Args:
            wait: return only when the check is completed or failed.
            timeout_seconds: how long to wait; None = for ever.

        Raises:
            StillWaiting: it is not over in time; it goes on.
        """
        asked = cast(
            "CheckDocument", self.transport.post(self.path("checks"), {}, is_repeatable=True)
        )
        return self.wait_for_check(asked["id"], timeout_seconds=timeout_seconds) if wait else asked

    def wait_for_check(
        self, check_id: str, *, timeout_seconds: float | None = 600.0
    ) -> CheckDocument:
        """Return a check once it is completed or failed.

        Raises:
            StillWaiting: it is not over in time; it goes on.
        """
        return wait_until(
            lambda: self.check_document(check_id),
            lambda check: check["state"] in CHECK_ENDS,
            what=f"check {check_id}",
            timeout_seconds=timeout_seconds,
            pace=self.pace,
        )

    def self_test(
        self, *, wait: bool = True, timeout_seconds: float | None = 600.0
    ) -> dict[str, Any]:
        """Ask whether the model's detectors would see known shifts.

        Args:
            wait: return only when the test is completed or failed.
            timeout_seconds: how long to wait; None = for ever.

        Raises:
            StillWaiting: it is not over in time; it goes on.
        """
        asked = self.transport.post(self.path("self-tests"), {}, is_repeatable=True)
        if not wait:
            return cast("dict[str, Any]", asked)
        return wait_until(
            lambda: self.self_test_document(asked["id"]),
            lambda test: test["state"] in CHECK_ENDS,
            what=f"self-test {asked['id']}",
            timeout_seconds=timeout_seconds,
            pace=self.pace,
        )

    def retrain(
        self,
        reason: str,
        *,
        start_from: Literal["champion", "base"] | None = None,
        recipe: Mapping[str, Any] | None = None,
        selection: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        seed: int | None = None,
        repeat_of: str | None = None,
        force: bool = False,
        priority: int | None = None,
        idempotency_key: str | None = None,
        wait: bool = False,
        timeout_seconds: float | None = None,
        on_progress: Callable[[RunDocument], None] | None = None,
    ) -> RunDocument:
        """Ask for a training run; without a champion it learns from the training dataset.

        Args:
            reason: for the audit.
            start_from: the weights to begin with; None = the policy's choice.
            recipe: the task type's knobs that differ from their defaults.
            selection: which rows it trains on, as `retrain.selection` of the policy has it, such as
                {"by": "reservoir", "maximum_rows": 2000}; None = the policy's.
            search: how its recipe is searched for, such as {"n_trials": 20, "budget_seconds":
                3600}; None = as the policy says.
            seed: of everything random; None = drawn.
            repeat_of: id of a run to do again, on the same data with the same seed.
            force: in spite of incidents upstream; their rows are left out all the same.
            priority: among the waiting runs of all models, -10 to 10, larger first; None = the
                policy's.
            idempotency_key: the same key asks for the same run; None = a new one.
            wait: return only when the run has ended, in whichever way; look at its `state`.
            timeout_seconds: how long to wait; None = for ever.
            on_progress: called with the run whenever it has changed.

        Raises:
            Conflict: as many runs as the policy allows are in flight, or an incident stands.
            StillWaiting: it has not ended in time; it goes on.
        """
        stated = {
            "start_from": start_from,
            "recipe": recipe,
            "selection": selection,
            "search": search,
            "seed": seed,
            "repeat_of": repeat_of,
            "priority": priority,
        }
        wish: dict[str, Any] = {key: value for key, value in stated.items() if value is not None}
        if force:
            wish["force"] = True
        run = cast(
            "RunDocument",
            self.transport.post(
                self.path("retrain"),
                {"reason": reason, **wish},
                headers={"Idempotency-Key": idempotency_key or uuid4().hex},
                is_repeatable=True,
            ),
        )
        if not wait:
            return run
        return self.wait_for_run(
            run["id"], timeout_seconds=timeout_seconds, on_progress=on_progress
        )

    def wait_for_run(
        self,
        run_id: str,
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[RunDocument], None] | None = None,
    ) -> RunDocument:
        """Return a training run once it has succeeded, failed or been cancelled.

        Args:
            run_id: which run.
            timeout_seconds: how long to wait; None = for ever.
            on_progress: called with the run at first, and whenever it has changed.

        Raises:
            StillWaiting: it has not ended in time; it goes on.
        """
        last: list[RunDocument] = []

        def look() -> RunDocument:
            run = self.run(run_id)
            if on_progress and (not last or last[0] != run):
                on_progress(run)
            last[:] = [run]
            return run

        return wait_until(
            look,
            lambda run: run["state"] in RUN_ENDS,
            what=f"run {run_id}",
            timeout_seconds=timeout_seconds,
            pace=self.pace,
        )

    def follow(self, run_id: str, *, after: int = 0) -> Iterator[RunChangeDocument]:
        """Yield what happens to a training run as it happens, until it has ended.

        What has happened before comes first. A line that breaks is taken up where it broke.

        Args:
            run_id: which run.
            after: `number` of the last change that is known; 0 = from the first.

        Raises:
            NotFound: no such run.
            Unavailable: the service is away, or too many already follow runs, for longer than the
                client's patience.
        """
        return changes(
            self.transport,
            self.path("runs", run_id, "events"),
            after=after,
            ends=RUN_ENDS,
            is_over=lambda: self.run(run_id)["state"] in RUN_ENDS,
        )

    def wait_until_settled(self, timeout_seconds: float | None = 600.0) -> ModelDocument:
        """Return the model once nothing is unchecked and no check or run is in flight.

        Raises:
            StillWaiting: it is not settled in time.
        """
        return wait_until(
            self.document,
            lambda model: model["watch"]["is_settled"],
            what=f"the work on model {self.name!r}",
            timeout_seconds=timeout_seconds,
            pace=self.pace,
        )

    def cancel(self, run_id: str, reason: str) -> RunDocument:
        """Ask a training run to stop.

        Raises:
            Conflict: it has ended.
        """
        path = self.path("runs", run_id, "cancel")
        return cast("RunDocument", self.transport.post(path, {"reason": reason}))

    def promote(
        self, number: int, reason: str, *, force: bool = False, judged_against: int | None = None
    ) -> VersionDocument:
        """Make a version the champion.

        Args:
            number: which version.
            reason: for the audit.
            force: even if a gate does not let it pass.
            judged_against: the champion it was compared with; refused if that has changed.

        Raises:
            Conflict: its state, a gate or a new champion forbids it.
        """
        document: dict[str, Any] = {"reason": reason, "force": force}
        if judged_against is not None:
            document["judged_against"] = judged_against
        path = self.path("versions", number, "promote")
        return cast("VersionDocument", self.transport.post(path, document))

    def rollback(self, reason: str, *, to: int | None = None) -> VersionDocument:
        """Take the champion out of service, and put an earlier version back.

        Args:
            reason: for the audit.
            to: which version; None = the one before.

        Raises:
            Conflict: there is no such version to go back to.
        """
        document: dict[str, Any] = {"reason": reason}
        if to is not None:
            document["to"] = to
        return cast("VersionDocument", self.transport.post(self.path("rollback"), document))

    def acknowledge(self, incident_id: str, reason: str = "not stated") -> IncidentDocument:
        """Say that somebody looks after an incident; it goes on blocking.

        Raises:
            Conflict: it is resolved.
        """
        return cast(
            "IncidentDocument", self._tell(("incidents", incident_id, "acknowledge"), reason)
        )

    def resolve(
        self, incident_id: str, reason: str, *, is_genuine: bool = False
    ) -> IncidentDocument:
        """End an incident.

        Args:
            incident_id: which one.
            reason: for the audit.
            is_genuine: it was no fault, but is how things are now: its rows count.

        Raises:
            Conflict: it is resolved already.
        """
        path = self.path("incidents", incident_id, "resolve")
        document = {"reason": reason, "is_genuine": is_genuine}
        return cast("IncidentDocument", self.transport.post(path, document))

    def replace_reference(self, number: int, dataset: str, reason: str) -> ReferenceDocument:
        """Compare a version with another dataset from now on; its watch starts anew.

        Args:
            number: which version.
            dataset: id of an uploaded dataset.
            reason: for the audit.

        Raises:
            Invalid: the dataset cannot serve as one; `errors` say why.
        """
        answer = self.transport.send(
            "PUT",
            self.path("versions", number, "reference"),
            content=to_json({"dataset": dataset, "reason": reason}),
            headers={"Content-Type": "application/json"},
            is_repeatable=True,
        )
        return cast("ReferenceDocument", answer.json())

    def add_labels(self, labels: Sequence[str], reason: str = "not stated") -> ModelDocument:
        """Let the model know more labels; the next run learns them.

        Args:
            labels: those it knows already change nothing.
            reason: why; kept in the audit log.

        Raises:
            Invalid: a label is empty.
        """
        body = {"add": list(labels), "reason": reason}
        return cast(
            "ModelDocument",
            self.transport.post(self.path("label-set"), body, is_repeatable=True),
        )

    def pause(self, reason: str = "not stated") -> ModelDocument:
        """Stop deciding and training by itself; observations are still taken in."""
        return cast("ModelDocument", self._tell(("pause",), reason))

    def resume(self, reason: str = "not stated") -> ModelDocument:
        """Decide and train by itself again."""
        return cast("ModelDocument", self._tell(("resume",), reason))

    def _tell(self, what: tuple[str, ...], reason: str) -> Any:
        return self.transport.post(self.path(*what), {"reason": reason}, is_repeatable=True)

    def change_policy(self, patch: Mapping[str, Any]) -> Policy:
        """Change the policy by a JSON merge patch (RFC 7396); return its new version.

        Raises:
            Invalid: the patched policy makes no sense; `errors` say where.
        """
        answer = self.transport.send(
            "PATCH",
            self.path("policy"),
            content=to_json(patch),
            headers={"Content-Type": MERGE_PATCH},
            is_repeatable=True,
        )
        return cast("Policy", answer.json())
