"""/v1/session: signing in with an API key, for browsers. The key itself is not kept, in no cookie and no storage."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.answers import answer
from api.auth import Caller, wrong_key
from api.bodies import documented_body, read_as
from api.deps import CallerDep, Service, ServiceDep
from api.errors import documented
from api.me import of_caller
from api.session.schemas import SessionObject, SignIn
from api.session.seal import COOKIE, Ticket

router = APIRouter(prefix="/session", tags=["session"])
signing_in = APIRouter(prefix="/session", tags=["session"])
"""What takes no key: where one is shown, and where a browser asks whether it has done so."""


@signing_in.post(
    "",
    status_code=201,
    response_model=SessionObject,
    responses=documented(401, 413, 415, 422),
    openapi_extra=documented_body(SignIn),
)
async def sign_in(service: ServiceDep, request: Request) -> Response:
    """Open a session with an API key: the answer sets a cookie that stands for the key."""
    wanted = await read_as(SignIn, request, service.settings.max_body_bytes)
    caller = await service.keyring.caller(wanted.key.strip())
    if caller is None:
        raise wrong_key()
    token, ticket = service.keyring.seal.issue(caller.key_id)
    response = answer(await to_thread.run_sync(_told, service, caller, ticket), 201)
    response.set_cookie(
        COOKIE,
        token,
        expires=ticket.expires_at,
        path="/",
        secure=service.settings.secure_cookie or request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@signing_in.get("", response_model=SessionObject)
async def show_session(service: ServiceDep, request: Request) -> Response:
    """Tell who is signed in, and what changing requests must carry."""
    ticket = service.keyring.seal.open(request.cookies.get(COOKIE, ""))
    caller = None if ticket is None else await service.keyring.caller_of_key(ticket.key_id)
    if ticket is None or caller is None:
        return answer(SessionObject())
    return answer(await to_thread.run_sync(_told, service, caller, ticket))


@router.delete("", response_model=SessionObject, responses=documented(401))
async def sign_out(_caller: CallerDep) -> Response:
    """Close the session: the answer takes the cookie back."""
    response = answer(SessionObject())
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _told(service: Service, caller: Caller, ticket: Ticket) -> SessionObject:
    me = of_caller(service, caller)
    return SessionObject(csrf_token=ticket.csrf_token, expires_at=ticket.expires_at, key=me.key, project=me.project)
