"""What has become of a model? Its documents, read."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from upkeep.documents import (
    ChampionDocument,
    CheckDocument,
    DatasetDocument,
    DecisionDocument,
    IncidentDocument,
    ModelDocument,
    PerformanceDocument,
    Policy,
    ReferenceDocument,
    ReportDocument,
    RunChangeDocument,
    RunDocument,
    VersionDocument,
)
from upkeep.handle import Handle
from upkeep.paging import every


class Reading(Handle):
    """The part of a model's handle that only reads; lists come page by page, as they are used."""

    def document(self) -> ModelDocument:
        """Return the model itself: its contract, objective, policy, champion and watch."""
        return cast("ModelDocument", self.transport.get(self.path()))

    def champion(self, at: datetime | None = None) -> ChampionDocument:
        """Return the version in charge, now or at a time gone by.

        Raises:
            NotFound: none was.
        """
        query = {"at": None if at is None else at.astimezone(UTC).isoformat()}
        return cast("ChampionDocument", self.transport.get(self.path("champion"), query))

    def versions(self, *, limit: int | None = None) -> Iterator[VersionDocument]:
        """Yield the versions, newest first."""
        return every(self.transport, self.path("versions"), limit=limit)

    def version(self, number: int) -> VersionDocument:
        """Return one version."""
        return cast("VersionDocument", self.transport.get(self.path("versions", number)))

    def card(self, number: int) -> str:
        """Return the model card of a version as Markdown: a README.md to put beside its files."""
        return self.transport.send("GET", self.path("versions", number, "card")).text

    def runs(self, *, state: str | None = None, limit: int | None = None) -> Iterator[RunDocument]:
        """Yield the training runs, newest first; those in one state if it is named."""
        return every(self.transport, self.path("runs"), query={"state": state}, limit=limit)

    def run(self, run_id: str) -> RunDocument:
        """Return one training run."""
        return cast("RunDocument", self.transport.get(self.path("runs", run_id)))

    def usage(self) -> dict[str, Any]:
        """Return what all training of the model took, and each promoted point of accuracy."""
        return cast("dict[str, Any]", self.transport.get(self.path("usage")))

    def run_history(self, run_id: str) -> list[RunChangeDocument]:
        """Return what has happened to a training run, oldest first; its progress is sampled."""
        answer = self.transport.get(self.path("runs", run_id, "history"))
        return cast("list[RunChangeDocument]", answer["items"])

    def decisions(
        self, *, outcome: str | None = None, limit: int | None = None
    ) -> Iterator[DecisionDocument]:
        """Yield what was decided and why, newest first; those of one outcome if it is named."""
        path = self.path("decisions")
        return every(self.transport, path, query={"outcome": outcome}, limit=limit)

    def decision(self, decision_id: str) -> DecisionDocument:
        """Return one decision."""
        return cast("DecisionDocument", self.transport.get(self.path("decisions", decision_id)))

    def reports(self, *, limit: int | None = None) -> Iterator[ReportDocument]:
        """Yield the drift reports, newest first."""
        return every(self.transport, self.path("reports"), limit=limit)

    def report(self, report_id: str) -> ReportDocument:
        """Return one drift report with its scores."""
        return cast("ReportDocument", self.transport.get(self.path("reports", report_id)))

    def moved(self, report_id: str) -> dict[str, Any]:
        """Return what moved in a report: both histograms, nearest exemplars, classes concerned."""
        path = self.path("reports", report_id, "moved")
        return cast("dict[str, Any]", self.transport.get(path))

    def alarms(self) -> dict[str, Any]:
        """Return how often drift was found of late, and how many alarms labels confirmed."""
        return cast("dict[str, Any]", self.transport.get(self.path("alarms")))

    def incidents(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        field: str | None = None,
        limit: int | None = None,
    ) -> Iterator[IncidentDocument]:
        """Yield the faults upstream and what became of them, newest first."""
        query = {"state": state, "kind": kind, "field": field}
        return every(self.transport, self.path("incidents"), query=query, limit=limit)

    def incident(self, incident_id: str) -> IncidentDocument:
        """Return one incident: what is broken, since when, and what it blocks."""
        return cast("IncidentDocument", self.transport.get(self.path("incidents", incident_id)))

    def reference(self, number: int) -> ReferenceDocument:
        """Return what a version is compared with, since when, and what it was before."""
        path = self.path("versions", number, "reference")
        return cast("ReferenceDocument", self.transport.get(path))

    def label_lag(self) -> dict[str, Any]:
        """Return how long labels take and what share of the answers gets one."""
        return cast("dict[str, Any]", self.transport.get(self.path("label-lag")))

    def retention(self) -> dict[str, Any]:
        """Return by kind what is forgotten after how many days, and what was."""
        return cast("dict[str, Any]", self.transport.get(self.path("retention")))

    def check_document(self, check_id: str) -> CheckDocument:
        """Return how far one check is."""
        return cast("CheckDocument", self.transport.get(self.path("checks", check_id)))

    def self_tests(self, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the tests of the model's detectors on known shifts, newest first."""
        return every(self.transport, self.path("self-tests"), limit=limit)

    def self_test_document(self, test_id: str) -> dict[str, Any]:
        """Return one self-test: how surely and how soon each known shift is seen."""
        path = self.path("self-tests", test_id)
        return cast("dict[str, Any]", self.transport.get(path))

    def datasets(self, *, limit: int | None = None) -> Iterator[DatasetDocument]:
        """Yield the uploaded sets of examples, newest first."""
        return every(self.transport, self.path("datasets"), limit=limit)

    def observation(self, observation_id: str) -> dict[str, Any]:
        """Return one observation with the history of its label."""
        path = self.path("observations", observation_id)
        return cast("dict[str, Any]", self.transport.get(path))

    def quarantined(self, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the observations that broke the input contract, and how, newest first."""
        return every(self.transport, self.path("quarantine"), limit=limit)

    def violations(self, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield how often rows broke the contract: {"hour", "field", "kind", "n"}, newest first."""
        return every(self.transport, self.path("violations"), limit=limit)

    def performance(self, bucket: int | None = None) -> PerformanceDocument:
        """Return served accuracy by bucket, and what happened between.

        Args:
            bucket: observations in each, in arrival order; None = the service's choice.
        """
        found = self.transport.get(self.path("performance"), {"bucket": bucket})
        return cast("PerformanceDocument", found)

    def policy(self) -> Policy:
        """Return when the model is retrained and promoted."""
        return cast("Policy", self.transport.get(self.path("policy")))
