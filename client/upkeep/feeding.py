"""How does a model get what it lives on: observations, labels, examples, versions?"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, cast

from upkeep.documents import Row, UploadDocument, VersionDocument
from upkeep.errors import Invalid
from upkeep.handle import Handle
from upkeep.receipts import Receipt, batches, with_ids
from upkeep.retrying import Retries
from upkeep.transport import JSON, NDJSON, PARQUET, FilePart, to_json

Role = Literal["training", "reference", "holdout", "golden"]


class Feeding(Handle):
    """The part of a model's handle that sends data."""

    def log(
        self,
        observations: Iterable[Row],
        *,
        retries: Retries | None = None,
        timeout_seconds: float | None = None,
    ) -> Receipt:
        """Send what the model saw and answered; durable when this returns.

        A row is {"inputs": {...}, "prediction": "label"} (or a number, or a list of spans) and,
        where known, "id", "at" (an aware time), "scores", "version", "shadow". Rows without an id
        get one. The same row sent twice counts once, by its id, so requests that fail are safely
        sent again.

        Args:
            observations: any number; they travel in batches of up to 5,000 rows or 8 MiB.
            retries: instead of the client's own.
            timeout_seconds: of one attempt, instead of the client's own.

        Raises:
            Invalid: the service refused every row; fewer refusals are in the receipt.
            Unavailable: the service stayed away; what was sent before is stored.
        """
        rows = (row for given in observations for row in with_ids([given]))
        return self._send_rows("observations", rows, retries, timeout_seconds)

    def labels(
        self,
        labels: Iterable[Row]
        | Mapping[str, str]
        | Mapping[str, float]
        | Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> Receipt:
        """Send true labels: rows of {"id", "label"} and perhaps "at", or a mapping id -> label.

        Raises:
            Invalid: the service refused every row; fewer refusals are in the receipt.
            Unavailable: the service stayed away; what was sent before is stored.
        """
        if isinstance(labels, Mapping):
            labels = [{"id": id_, "label": label} for id_, label in labels.items()]
        return self._send_rows("labels", labels)

    def _send_rows(
        self,
        key: str,
        rows: Iterable[Row],
        retries: Retries | None = None,
        timeout_seconds: float | None = None,
    ) -> Receipt:
        receipt = Receipt()
        refusal: Invalid | None = None
        for batch in batches(key, rows):
            try:
                answer = self.transport.send(
                    "POST",
                    self.path(key),
                    content=batch.body,
                    headers={"Content-Type": JSON},
                    is_repeatable=True,
                    retries=retries,
                    timeout_seconds=timeout_seconds,
                )
            except Invalid as error:
                refusal = error
                receipt.add_refused(batch.ids, error)
            else:
                receipt.add(batch.ids, answer.json())
        if refusal and len(receipt.rejected) == len(receipt.ids):
            raise refusal
        return receipt

    def upload(
        self,
        role: Role,
        rows: Iterable[Row] | None = None,
        *,
        parquet: Path | str | bytes | None = None,
        ndjson: Path | str | bytes | None = None,
    ) -> UploadDocument:
        """Upload a set of examples, given in one of three ways.

        Args:
            role: what it is for: "training", "reference", "holdout" or "golden".
            rows: {"inputs": {...}, "label": "x"}, or flat as in {"text": "...", "label": "x"}.
            parquet: a file, or its bytes, with such columns.
            ndjson: a file, or its bytes, with such a row a line.

        Raises:
            Invalid: no row is usable; fewer refusals are in the document's `rejected`.
            TypeError: not exactly one way.
        """
        given = [source for source in (rows, parquet, ndjson) if source is not None]
        if len(given) != 1:
            raise TypeError("give the examples as one of rows, parquet and ndjson")
        if parquet is not None:
            content, media_type = _read(parquet), PARQUET
        elif ndjson is not None:
            content, media_type = _read(ndjson), NDJSON
        else:
            content, media_type = b"\n".join(map(to_json, rows or ())), NDJSON
        answer = self.transport.send(
            "POST",
            self.path("datasets"),
            query={"role": role},
            content=content,
            headers={"Content-Type": media_type},
        )
        return cast("UploadDocument", answer.json())

    def import_version(
        self,
        files: Path | str | Sequence[Path | str] | Mapping[str, bytes],
        *,
        adopt: bool = True,
        reference: str | None = None,
        reason: str = "imported",
    ) -> VersionDocument:
        """Bring a version trained elsewhere: a plain transformers directory, safetensors only.

        Args:
            files: the directory, the files themselves, or name -> content.
            adopt: make it the champion as soon as a worker has loaded it once.
            reference: id of the dataset it was accepted on.
            reason: for the audit.

        Raises:
            Invalid: a file could run code, or the directory is no model.
        """
        fields = {"adopt": "true" if adopt else "false", "reason": reason}
        if reference is not None:
            fields["reference"] = reference
        with ExitStack() as opened:
            answer = self.transport.send(
                "POST",
                self.path("versions"),
                data=fields,
                files=[("files", part) for part in _parts(files, opened)],
            )
        return cast("VersionDocument", answer.json())


def _read(source: Path | str | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _parts(
    files: Path | str | Sequence[Path | str] | Mapping[str, bytes], opened: ExitStack
) -> list[FilePart]:
    """Return (name, content) of each file; those on disk are opened, and closed by `opened`."""
    if isinstance(files, Mapping):
        return list(files.items())
    if isinstance(files, Path | str):
        inside = sorted(Path(files).iterdir()) if Path(files).is_dir() else [Path(files)]
        paths = [path for path in inside if path.is_file() and not path.name.startswith(".")]
    else:
        paths = [Path(path) for path in files]
    return [(path.name, opened.enter_context(path.open("rb"))) for path in paths]
