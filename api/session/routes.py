"""/v1/session: browsers sign in with an API key, which is then kept neither in the cookie nor anywhere else."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.answers import answer
from api.auth import Caller, wrong_key
from api.bodies import documented_body, read_as
from api.deps import CallerDep, Service, ServiceDep
from api.errors import documented
from api.me import of_caller
from api.session.schemas import SessionObject, SignIn
from api.session.seal import COOKIE, LASTS_S, Ticket

router = APIRouter(prefix="/session", tags=["session"])
signing_in = APIRouter(prefix="/session", tags=["session"])
"""The routes that need no key: signing in, and showing the session, if there is one."""


@signing_in.post(
    "",
    status_code=201,
    response_model=SessionObject,
    responses=documented(401, 413, 415, 422),
    openapi_extra=documented_body(SignIn),
)
async def sign_in(service: ServiceDep, request: Request) -> Response:
    """Open a session with an API key: the response sets a cookie that stands for the key."""
    wanted = await read_as(SignIn, request, service.settings.max_body_bytes)
    caller = await service.keyring.caller(wanted.key.strip())
    if caller is None:
        raise wrong_key()
    token, ticket = service.keyring.seal.issue(caller.key_id)
    response = answer(await to_thread.run_sync(_session_object, service, caller, ticket), 201)
    response.set_cookie(
        COOKIE,
        token,
        max_age=LASTS_S,
        path="/",
        secure=service.settings.secure_cookie or request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@signing_in.get("", response_model=SessionObject)
async def show_session(service: ServiceDep, request: Request) -> Response:
    """Show the session, if there is one, with the CSRF token that its changes need."""
    ticket = service.keyring.seal.open(request.cookies.get(COOKIE, ""))
    caller = None if ticket is None else await service.keyring.caller_of_key(ticket.key_id)
    if ticket is None or caller is None:
        return answer(SessionObject())
    return answer(await to_thread.run_sync(_session_object, service, caller, ticket))


@router.delete("", response_model=SessionObject, responses=documented(401))
async def sign_out(_caller: CallerDep) -> Response:
    """Close the session: the response deletes the cookie."""
    response = answer(SessionObject())
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _session_object(service: Service, caller: Caller, ticket: Ticket) -> SessionObject:
    me = of_caller(service, caller)
    return SessionObject(csrf_token=ticket.csrf_token, expires_at=ticket.expires_at, key=me.key, project=me.project)
