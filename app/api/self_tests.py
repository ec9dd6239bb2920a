"""Self-tests of detectors over REST."""

from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.api.context import Operator, Paged, Reader, Work, answer, listing
from app.api.schemas import Listing, SelfTestAnswer
from app.services import self_tests

router = APIRouter(prefix="/v1/models/{name}/self-tests", tags=["drift"])


@router.post("", status_code=202, response_model=SelfTestAnswer)
def request_self_test(name: str, actor: Operator, work: Work) -> JSONResponse:
    """Ask whether the model's detectors would see known shifts; a test in flight is joined."""
    test_id = self_tests.request(work, actor, name)
    url = f"/v1/models/{name}/self-tests/{test_id}"
    with work:
        model = work.models.get(name, actor.project_id)
        body = work.self_tests.get(test_id, model.id)
    return answer({**body, "url": url}, 202, {"Location": url})


@router.get("", response_model=Listing)
def list_self_tests(name: str, actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List self-tests, newest first."""
    with work:
        model = work.models.get(name, actor.project_id)
        return listing(work.self_tests.listed(model.id, page))


@router.get("/{test_id}", response_model=SelfTestAnswer)
def get_self_test(name: str, test_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one self-test: how surely and how soon each known shift is seen."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(work.self_tests.get(test_id, model.id))
