"""How does a request reach the service, and what becomes of its answer?"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, Final
from uuid import uuid4

import httpx

from upkeep.errors import Unavailable, UpkeepError, error_of
from upkeep.retrying import Retries, may_repeat, wished_pause_seconds

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PARQUET: Final = "application/vnd.apache.parquet"

Query = Mapping[str, str | int | None]
FilePart = tuple[str, bytes | IO[bytes]]
"""A file's name and content; one that is open is read from its start, as often as needed."""

log = logging.getLogger("upkeep")


def to_json(value: Any) -> bytes:
    """Return JSON as UTF-8; times become RFC 3339 in UTC.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: NaN, infinity, or a time that does not say its offset.
    """
    text = json.dumps(
        value, default=_plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _plain(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} has no JSON form; pass plain JSON values")
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no offset; use an aware time, such as datetime.now(UTC)")
    return value.astimezone(UTC).isoformat()


class Transport:
    """One service at one address; safe to share between threads.

    Args:
        base_url: where it listens.
        key: the API key, if the service has keys.
        actor: who the audit names while the service has no keys.
        timeout_seconds: how long one attempt may wait for the service.
        retries: how long, and how often, to try again.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None,
        actor: str | None,
        timeout_seconds: float,
        retries: Retries,
    ) -> None:
        headers = {"Accept": JSON, "User-Agent": "upkeep-client"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if actor:
            headers["X-Actor"] = actor
        self.base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self.retries = retries
        self._http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout_seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the JSON document at a path."""
        return self.send("GET", path, query=query).json()

    def post(
        self,
        path: str,
        document: Any,
        *,
        is_repeatable: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a JSON document; return the answer's."""
        return self.send(
            "POST",
            path,
            content=to_json(document),
            headers={"Content-Type": JSON, **(headers or {})},
            is_repeatable=is_repeatable,
        ).json()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        content: bytes | None = None,
        data: Mapping[str, str] | None = None,
        files: Sequence[tuple[str, FilePart]] | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool | None = None,
        retries: Retries | None = None,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """Return the first answer that is a success or 304, trying again while that may help.

        Args:
            method: the HTTP method.
            path: below the base URL.
            query: parameters; those that are None are left out.
            content: the whole body, so that it can be sent again.
            data: fields of a form, instead of a body.
            files: the form's files, each with the name of its field.
            headers: besides the usual ones.
            is_repeatable: whether twice equals once; None = by the method.
            retries: instead of the transport's own.
            timeout_seconds: of one attempt, instead of the transport's own.

        Raises:
            Unavailable: no usable answer before the patience ran out.
            UpkeepError: the service refused.
        """
        request = self._http.build_request(
            method,
            path,
            params={key: value for key, value in (query or {}).items() if value is not None},
            content=content,
            data=data,
            files=files,
            headers={"X-Request-Id": uuid4().hex, **(headers or {})},
            timeout=timeout_seconds or self._timeout_seconds,
        )
        repeatable = method in {"GET", "HEAD", "PUT"} if is_repeatable is None else is_repeatable
        return self._until_answered(request, repeatable, retries or self.retries)

    def _until_answered(
        self, request: httpx.Request, is_repeatable: bool, retries: Retries
    ) -> httpx.Response:
        deadline = time.monotonic() + retries.patience_seconds
        attempt = 0
        while True:
            attempt += 1
            wish_seconds: float | None = None
            failure: httpx.Response | httpx.TransportError
            try:
                failure = self._http.send(request)
            except httpx.TransportError as error:
                failure = error
            if isinstance(failure, httpx.Response):
                if failure.is_success or failure.status_code == httpx.codes.NOT_MODIFIED:
                    return failure
                wish_seconds = wished_pause_seconds(failure)
            pause_seconds = retries.pause_seconds(attempt, wish_seconds)
            is_late = time.monotonic() + pause_seconds > deadline
            if is_late or not may_repeat(failure, is_repeatable=is_repeatable):
                raise self._given_up(request, failure, attempt)
            log.debug("request.retried %s %s after %s", request.method, request.url, failure)
            time.sleep(pause_seconds)

    def _given_up(
        self, request: httpx.Request, failure: httpx.Response | httpx.TransportError, attempt: int
    ) -> UpkeepError:
        if isinstance(failure, httpx.Response):
            return error_of(failure)
        tried = f"{attempt} attempt{'s' if attempt > 1 else ''}"
        reason = str(failure) or type(failure).__name__
        error = Unavailable(
            f"no answer from {self.base_url} to {request.method} {request.url.path} "
            f"after {tried}: {reason}",
            title="No answer",
        )
        error.__cause__ = failure
        return error

    @contextmanager
    def streamed(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """Yield the body of a GET in pieces, as they come; one attempt.

        Raises:
            Unavailable: no answer, or it broke off.
            UpkeepError: the service refused.
        """
        try:
            sent = {"Accept": "*/*", **(headers or {})}
            with self._http.stream("GET", path, headers=sent) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response.iter_bytes()
        except httpx.TransportError as error:
            raise Unavailable(
                f"the answer to GET {path} broke off: {error}", title="No answer"
            ) from error
