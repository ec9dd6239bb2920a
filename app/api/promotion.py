"""Versions, promotion and rollback over REST."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, File, Form, Header, Query, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response

from app.api.context import Approver, Operator, Paged, Reader, Wired, Work, answer, listing, now
from app.api.schemas import (
    Listing,
    ProfileAnswer,
    PromoteBody,
    ReferenceAnswer,
    ReferenceBody,
    RollbackBody,
    VersionAnswer,
)
from app.domain.errors import Fault, Invalid
from app.services import cards, promotion, references, versions
from app.services.documents import document

router = APIRouter(prefix="/v1/models/{name}", tags=["versions"])

PARQUET, NDJSON = "application/vnd.apache.parquet", "application/x-ndjson"
MARKDOWN = "text/markdown"


@router.post("/versions", status_code=202, response_model=VersionAnswer)
def import_version(
    name: str,
    actor: Approver,
    work: Work,
    wired: Wired,
    files: Annotated[
        list[UploadFile],
        File(
            description="config.json, model.safetensors, tokenizer files ...; of columns model.txt"
        ),
    ],
    adopt: Annotated[bool, Form(description="make it champion once it has loaded")] = True,
    reference: Annotated[
        UUID | None, Form(description="dataset it was accepted on, to be pinned to it")
    ] = None,
    reason: Annotated[str, Form(max_length=2000)] = "imported",
) -> JSONResponse:
    """Bring a model that is already deployed: its files become a version, adopted if asked."""
    bodies = {file.filename or "": file.file.read() for file in files}
    if len(bodies) < len(files):
        fault = Fault("/files", "give every file its own name")
        raise Invalid("two files have the same name", [fault])
    version = versions.import_version(
        work,
        wired.artifacts,
        actor,
        name,
        bodies,
        adopt=adopt,
        reference=reference,
        reason=reason,
        now=now(),
    )
    with work:
        model = work.models.by_id(version.model_id)
        shown = versions.shown(work, model, version)
    return answer(shown, 202, {"Location": f"/v1/models/{name}/versions/{version.number}"})


@router.get("/versions", response_model=Listing)
def list_versions(name: str, actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List versions, newest first."""
    with work:
        model = work.models.get(name, actor.project_id)
        listed = work.versions.listed(model.id, page)
        return listing(listed, lambda version: document(versions.shown(work, model, version)))


@router.get("/versions/{number}", response_model=VersionAnswer)
def get_version(name: str, number: int, actor: Reader, work: Work) -> JSONResponse:
    """Return one version: files, lineage, evidence, verdicts, history."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(versions.shown(work, model, work.versions.get(model.id, number)))


@router.get(
    "/versions/{number}/card",
    response_class=Response,
    responses={200: {"content": {MARKDOWN: {}}, "description": "Markdown, with YAML before it."}},
)
def get_card(name: str, number: int, actor: Reader, work: Work) -> Response:
    """Return the model card of a version, made from its record."""
    with work:
        model = work.models.get(name, actor.project_id)
        body = cards.card(work, model, work.versions.get(model.id, number))
    headers = {"Content-Disposition": 'inline; filename="README.md"'}
    return Response(body, media_type=f"{MARKDOWN}; charset=utf-8", headers=headers)


@router.get("/versions/{number}/profile", response_model=ProfileAnswer)
def get_profile(name: str, number: int, actor: Reader, work: Work) -> JSONResponse:
    """Return what the version was accepted on, column by column: bins, counts, share missing."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(versions.profile_of(work, work.versions.get(model.id, number)))


@router.get("/versions/{number}/files/{path}", response_class=FileResponse)
def get_file(
    name: str, number: int, path: str, actor: Reader, work: Work, wired: Wired
) -> FileResponse:
    """Return one file of a version; its ETag is its SHA-256."""
    with work:
        model = work.models.get(name, actor.project_id)
        file = versions.file_of(work.versions.get(model.id, number), path)
    return FileResponse(
        wired.artifacts.path(file.sha256),
        media_type="application/octet-stream",
        filename=file.path,
        headers={"ETag": f'"{file.sha256}"', "Cache-Control": "private, immutable"},
    )


@router.get("/versions/{number}/reference", response_model=ReferenceAnswer)
def get_reference(name: str, number: int, actor: Reader, work: Work) -> JSONResponse:
    """Return what a version is compared with, since when, and what it was before."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(references.shown(work, model, work.versions.get(model.id, number)))


@router.put("/versions/{number}/reference", response_model=ReferenceAnswer)
def replace_reference(
    name: str, number: int, body: ReferenceBody, actor: Operator, work: Work
) -> JSONResponse:
    """Compare a version with another dataset from now on; its watch starts anew."""
    references.replace(work, actor, name, number, dataset_id=body.dataset, reason=body.reason)
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(references.shown(work, model, work.versions.get(model.id, number)))


@router.get("/versions/{number}/reference/rows", response_class=Response)
def get_reference_rows(
    name: str,
    number: int,
    actor: Reader,
    work: Work,
    wired: Wired,
    kind: Annotated[
        Literal["parquet", "ndjson"],
        Query(alias="format", description="as stored, or a JSON object a line"),
    ] = "parquet",
) -> Response:
    """Return the rows that a version is compared with; the Parquet's SHA-256 is `sha256`."""
    with work:
        model = work.models.get(name, actor.project_id)
        dataset = references.dataset_of(work, work.versions.get(model.id, number))
    if kind == "ndjson":
        return Response(references.as_ndjson(wired.artifacts, dataset, model), media_type=NDJSON)
    return FileResponse(
        wired.artifacts.path(dataset.sha256),
        media_type=PARQUET,
        filename=f"{dataset.id}.parquet",
        headers={"ETag": f'"{dataset.sha256}"', "Cache-Control": "private, no-cache"},
    )


@router.get("/champion", response_model=VersionAnswer)
def get_champion(
    name: str,
    actor: Reader,
    work: Work,
    at: Annotated[
        datetime | None, Query(description="who served at that time, and why (RFC 3339)")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the champion; with If-None-Match, 304 while it is the same."""
    if at is not None and at.tzinfo is None:
        raise Invalid("the time has no offset", [Fault("/at", "use 2026-01-31T12:00:00Z")])
    version, body = versions.champion_at(work, actor, name, at)
    etag = f'"{version.digest}.{version.number}"'
    if at is None and if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers={"ETag": etag})
    return answer(body, headers={"ETag": etag, "Cache-Control": "no-cache"})


@router.post("/versions/{number}/promote", response_model=VersionAnswer)
def promote(name: str, number: int, body: PromoteBody, actor: Approver, work: Work) -> JSONResponse:
    """Make a version the champion; without force only a challenger whose gates passed."""
    version = promotion.promote(
        work,
        actor,
        name,
        number,
        reason=body.reason,
        force=body.force,
        judged_against=body.judged_against,
    )
    with work:
        return answer(versions.shown(work, work.models.by_id(version.model_id), version))


@router.post("/rollback", response_model=VersionAnswer)
def roll_back(name: str, body: RollbackBody, actor: Approver, work: Work) -> JSONResponse:
    """Put an earlier version back in charge; the present champion is quarantined."""
    version = promotion.roll_back(work, actor, name, to=body.to, reason=body.reason)
    with work:
        return answer(versions.shown(work, work.models.by_id(version.model_id), version))
