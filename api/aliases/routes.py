"""/v1/aliases: names such as `support-bot@production`, which jobs, chats and evaluations take for a model's."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Request, Response

from api.aliases import service as aliases
from api.aliases.schemas import AliasObject, PromotionRequest
from api.answers import Page, answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ServiceDep
from api.errors import documented

router = APIRouter(prefix="/aliases", tags=["aliases"])
_Alias = Annotated[str, Path(description="NAME@ALIAS.")]


@router.get("", response_model=Page[AliasObject], responses=documented(401))
def list_aliases(service: ServiceDep, caller: CallerDep) -> Response:
    """List what each alias means, by name."""
    return answer(aliases.page(service, caller))


@router.post(
    "",
    status_code=201,
    response_model=AliasObject,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422),
    openapi_extra=documented_body(PromotionRequest),
)
async def promote(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Turn an alias to a version that evaluations find no worse than its base and than what the alias means now."""
    asked = await read_as(PromotionRequest, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(aliases.promote, service, caller, asked), 201)


@router.get("/{alias}", response_model=AliasObject, responses=documented(401, 404))
def show_alias(service: ServiceDep, caller: CallerDep, alias: _Alias) -> Response:
    """Show what an alias means and has meant."""
    return answer(aliases.show(service, caller, alias))


@router.post("/{alias}/rollback", response_model=AliasObject, responses=documented(401, 404, 409))
def roll_back_alias(service: ServiceDep, caller: CallerDep, alias: _Alias) -> Response:
    """Turn an alias to what it meant before."""
    return answer(aliases.roll_back(service, caller, alias))
