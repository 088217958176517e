"""/v1/aliases: names such as `support-bot@production`, which jobs, chats and evaluations accept as a model."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import StringConstraints

from api.aliases import service as aliases
from api.aliases.schemas import AliasObject, PromotionRequest
from api.answers import Page, answer
from api.auth import Caller
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ServiceDep
from api.errors import documented
from api.idempotency import ask_of
from db.idempotency import IdempotentRequest

router = APIRouter(prefix="/aliases", tags=["aliases"])
_Alias = Annotated[str, Path(description="The alias, as NAME@ALIAS.")]
_After = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[a-z][a-z0-9-]{0,31}$")] | None,
    Query(description="The last id of the previous page, which is not repeated."),
]
_Limit = Annotated[int, Query(ge=1, le=1000, description="The maximum number of aliases on the page.")]


@router.get("", response_model=Page[AliasObject], responses=documented(401, 422))
def list_aliases(service: ServiceDep, caller: CallerDep, after: _After = None, limit: _Limit = 1000) -> Response:
    """List aliases with their current versions, by name."""
    return answer(aliases.page(service, caller, after=after, limit=limit))


@router.post(
    "",
    status_code=201,
    response_model=AliasObject,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422),
    openapi_extra=documented_body(PromotionRequest),
)
async def promote(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Promote a version to an alias, if evaluations find it no worse than its base and the current version."""
    asked = await read_as(PromotionRequest, request, service.settings.max_body_bytes)
    ask = _keyed(request, caller, asked.model_dump(mode="json"))
    return answer(await to_thread.run_sync(aliases.promote, service, caller, asked, ask), 201)


@router.get("/{alias}", response_model=AliasObject, responses=documented(401, 404))
def show_alias(service: ServiceDep, caller: CallerDep, alias: _Alias) -> Response:
    """Show an alias with its history."""
    return answer(aliases.show(service, caller, alias))


@router.post("/{alias}/rollback", response_model=AliasObject, responses=documented(400, 401, 404, 409))
def roll_back_alias(service: ServiceDep, caller: CallerDep, request: Request, alias: _Alias) -> Response:
    """Return an alias to its previous version."""
    return answer(aliases.roll_back(service, caller, alias, _keyed(request, caller, None)))


def _keyed(request: Request, caller: Caller, body: Any) -> IdempotentRequest | None:
    """Return what identifies a request that has an Idempotency-Key.

    A retry count alone is not enough: the answer to an earlier, equal change would be returned, and nothing changed.
    """
    ask = ask_of(request, caller, body)
    return None if ask is None or ask.idempotency_key is None else ask
