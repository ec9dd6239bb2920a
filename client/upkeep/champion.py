"""How does a program answer with the champion, whichever version that is? Needs `[predict]`."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

from upkeep.artifacts import default_directory, fetch, prune, read_json, write_json
from upkeep.documents import VersionDocument
from upkeep.errors import Unavailable, UpkeepError
from upkeep.images import encoded
from upkeep.logbook import Logbook
from upkeep.model import Model
from upkeep.predictors import (
    AnswersNumbers,
    AnswersSpans,
    AnswersTexts,
    Predictor,
    open_predictor,
)
from upkeep.retrying import Retries
from upkeep.spans import Span

logger = logging.getLogger("upkeep")

SHORT: Final = Retries(patience_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer.

    Attributes:
        label: the class of highest score; empty where the version answers with something else.
        scores: label -> probability; empty then too.
        version: number of the version that answered.
        id: of the observation, to send its true label with later; "" if it was not logged.
        value: the number that is the answer, where answers are numbers.
        spans: of the text, by their start, where answers are spans.
        text: how the text goes on, where answers are texts.
    """

    label: str
    scores: dict[str, float]
    version: int
    id: str = ""
    value: float | None = None
    spans: tuple[Span, ...] | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A version in memory; replaced as a whole, so that one call is answered by one version."""

    number: int
    etag: str
    directory: Path
    predictor: Predictor


class Champion:
    """Answers with the version in charge, and takes up a new one by itself.

    Every `refresh_seconds`, an answer makes a background thread ask whether the champion has
    changed; the old version answers until the new one is downloaded, verified and loaded, and goes
    on answering if any of that fails. If the service is away at the start, the champion
    last seen in `directory` answers. Safe to share between threads; best used in a `with`.

    Args:
        model: its handle.
        directory: where versions are kept; None = the user's cache. Processes may share it.
        refresh_seconds: how old what is known of the champion may grow.
        device: such as "cpu" or "cuda"; None = a GPU if there is one.
        logbook: sends the observations; None = one with the usual settings.

    Raises:
        NotFound: the model has no champion yet.
        Unavailable: the service is away, and no champion has been seen here.
        UnsafeArtifact: the champion's files are not what was promised, or could run code.
    """

    def __init__(
        self,
        model: Model,
        directory: Path | str | None = None,
        refresh_seconds: float = 5.0,
        *,
        device: str | None = None,
        logbook: Logbook | None = None,
        version: int | None = None,
    ) -> None:
        self.model = model
        self.logbook = Logbook(model) if logbook is None else logbook
        self._directory = Path(directory) if directory is not None else default_directory()
        self._refresh_seconds = refresh_seconds
        self._device = device
        self._pinned = version
        self._refreshing = Lock()
        self._starting = Lock()
        self._thread: Thread | None = None
        self._held = self._first()
        self._seen_at = time.monotonic()

    @classmethod
    def pinned(
        cls,
        model: Model,
        number: int,
        directory: Path | str | None = None,
        *,
        device: str | None = None,
    ) -> Self:
        """Return one that answers with a given version for ever, champion or not."""
        return cls(model, directory, device=device, version=number)

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
        """Wait for a refresh in flight, and try to send what is not yet logged."""
        if self._thread is not None:
            self._thread.join()
        try:
            self.logbook.flush()
        except Unavailable as error:
            logger.warning("observation.dropped n=%d: %s", self.logbook.n_kept, error)

    @property
    def version(self) -> int:
        """Number of the version that answers now."""
        return self._held.number

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class; none where answers are numbers."""
        return self._held.predictor.labels

    def predict(self, inputs: Sequence[Any]) -> list[Prediction]:
        """Answer inputs, in their order, all by one version; nothing is logged.

        Args:
            inputs: objects such as {"text": "..."}, or the bare values of the field that the
                version reads. Pictures: Pillow images, uint8 arrays, files' bytes or base64.

        Raises:
            ValueError: an input lacks what the version reads.
        """
        self._refresh_if_due()
        held = self._held
        return _answers(held, _rows(held, inputs))

    def answer(
        self, inputs: Sequence[Any], ids: Sequence[str] | None = None, log: bool = True
    ) -> list[Prediction]:
        """Answer inputs as `predict` does, and log inputs and answers as observations.

        They are stored by the service when this returns; while the service is away they are kept
        in memory and sent with later answers, and nothing is raised.

        Args:
            inputs: as for `predict`.
            ids: of the observations, unique within the model; None = random ones.
            log: whether to log.

        Raises:
            ValueError: an input lacks what the version reads, or ids are too few or too many.
        """
        if ids is not None and len(ids) != len(inputs):
            raise ValueError(f"{len(ids)} ids do not fit {len(inputs)} inputs")
        self._refresh_if_due()
        held = self._held
        rows = _rows(held, inputs)
        answers = _answers(held, rows)
        if not log:
            return answers
        chosen = [uuid4().hex for _ in answers] if ids is None else ids
        answers = [replace(one, id=id_) for one, id_ in zip(answers, chosen, strict=True)]
        now = datetime.now(UTC)
        self.logbook.write(
            [
                {
                    "id": one.id,
                    "at": now,
                    "inputs": encoded(row),
                    **_said(one),
                    "version": one.version,
                }
                for one, row in zip(answers, rows, strict=True)
            ]
        )
        return answers

    def refresh(self) -> bool:
        """Take up the champion of now; return whether that is another version.

        Raises:
            UpkeepError: the service is away, has no champion, or its files are not to be
                trusted; the version held goes on answering.
        """
        if self._pinned is not None:
            return False
        with self._refreshing:
            self._seen_at = time.monotonic()
            response = self.model.transport.send(
                "GET",
                self.model.path("champion"),
                headers={"If-None-Match": self._held.etag} if self._held.etag else None,
            )
            if response.status_code == httpx.codes.NOT_MODIFIED:
                return False
            before = self._held
            self._held = self._taken_up(response.json(), response.headers.get("etag", ""))
            prune(self._directory, keep=self._held.directory)
            changed = before.number != self._held.number
        if changed:
            logger.info(
                "champion.changed model=%s from=%d to=%d",
                self.model.name,
                before.number,
                self._held.number,
            )
        return changed

    def _refresh_if_due(self) -> None:
        """Start one refresh in the background if the last is long ago."""
        if time.monotonic() - self._seen_at < self._refresh_seconds or self._pinned is not None:
            return
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self._seen_at = time.monotonic()
            self._thread = Thread(target=self._refresh_quietly, name="upkeep-champion", daemon=True)
            self._thread.start()

    def _refresh_quietly(self) -> None:
        try:
            self.refresh()
        except UpkeepError as error:
            logger.warning("champion.kept version=%d: %s", self._held.number, error)
        except Exception:
            # the thread must not end a server's answers; a version that cannot be loaded
            # fails in whatever way the libraries below choose
            logger.exception("champion.kept version=%d", self._held.number)

    def _first(self) -> _Held:
        """Return the version to begin with; the one last seen here if the service is away."""
        remembered = read_json(self._memory)
        path = self.model.path(*(("versions", self._pinned) if self._pinned else ("champion",)))
        try:
            response = self.model.transport.send(
                "GET", path, retries=SHORT if isinstance(remembered, dict) else None
            )
            return self._taken_up(response.json(), response.headers.get("etag", ""))
        except Unavailable as error:
            if not isinstance(remembered, dict):
                raise
            logger.warning("champion.remembered model=%s: %s", self.model.name, error)
            return self._taken_up(remembered["version"], remembered["etag"])

    @property
    def _memory(self) -> Path:
        """Return where the champion last seen of this service and model is written down."""
        which = f"{self.model.transport.base_url} {self.model.name} {self._pinned or 'champion'}"
        return self._directory / "seen" / f"{quote(which, safe=' ')}.json"

    def _taken_up(self, version: VersionDocument, etag: str) -> _Held:
        directory = fetch(self.model, version, self._directory)
        predictor = open_predictor(directory, device=self._device)
        write_json(self._memory, {"version": version, "etag": etag})
        return _Held(version["number"], etag, directory, predictor)


def _rows(held: _Held, inputs: Sequence[Any]) -> list[Mapping[str, Any]]:
    field = held.predictor.input_field
    rows: list[Mapping[str, Any]] = []
    for index, value in enumerate(inputs):
        if isinstance(value, Mapping):
            rows.append(value)
        elif field is not None:
            rows.append({field: value})
        else:
            raise ValueError(
                f"input {index} must be an object; this version reads more than one field"
            )
    return rows


def _said(answer: Prediction) -> dict[str, Any]:
    """Return an answer as an observation has it."""
    if answer.value is not None:
        return {"prediction": answer.value}
    if answer.spans is not None:
        return {"prediction": [span._asdict() for span in answer.spans]}
    if answer.text is not None:
        return {"prediction": answer.text}
    return {"prediction": answer.label, "scores": answer.scores}


def _answers(held: _Held, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    labels = held.predictor.labels
    if not labels and isinstance(held.predictor, AnswersNumbers):
        values = held.predictor.values(rows).tolist()
        return [Prediction("", {}, held.number, value=value) for value in values]
    if isinstance(held.predictor, AnswersSpans):
        said = held.predictor.spans(rows)
        return [Prediction("", {}, held.number, spans=tuple(spans)) for spans in said]
    if isinstance(held.predictor, AnswersTexts):
        return [Prediction("", {}, held.number, text=one) for one in held.predictor.texts(rows)]
    table = held.predictor.scores(rows)  # (n, k)
    best = table.argmax(axis=1)
    return [
        Prediction(labels[k], dict(zip(labels, row, strict=True)), held.number)
        for k, row in zip(best.tolist(), table.tolist(), strict=True)
    ]
