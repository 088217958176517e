"""/v1/webhook_endpoints and /v1/webhook_event_types."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.answers import Page, answer
from api.bodies import documented_body, read_as
from api.deps import After, CallerDep, Limit, ServiceDep
from api.disconnects import unless_gone
from api.errors import documented
from api.idempotency import ask_of
from api.openai.webhooks import service as webhooks
from api.openai.webhooks.schemas import (
    DeletedEndpoint,
    DeliveryObject,
    EndpointChange,
    EndpointObject,
    EndpointRequest,
    EndpointWithSecret,
    EventTypes,
    RotateRequest,
    SampleRequest,
    SampleResult,
    State,
)
from db.webhooks import EVENT_TYPES

router = APIRouter(tags=["OpenAI: webhooks"])

_WRITES = documented(400, 401, 404, 413, 415, 422)
DeliveryStatus = Annotated[State | None, Query(alias="status", description="Only deliveries with this status.")]


@router.post(
    "/webhook_endpoints",
    response_model=EndpointWithSecret,
    responses=documented(400, 401, 413, 415, 422),
    openapi_extra=documented_body(EndpointRequest),
)
async def create_webhook_endpoint(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Create a webhook endpoint for the ends of jobs and eval runs. Only this response contains its secret."""
    asked = await read_as(EndpointRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    return answer(await to_thread.run_sync(webhooks.create, service, caller, asked, ask))


@router.get("/webhook_endpoints", response_model=Page[EndpointObject], responses=documented(401, 422))
def list_webhook_endpoints(service: ServiceDep, caller: CallerDep, after: After = None, limit: Limit = 20) -> Response:
    """List webhook endpoints, newest first."""
    return answer(webhooks.page(service, caller, after=after, limit=limit))


@router.get("/webhook_endpoints/{webhook_id}", response_model=EndpointObject, responses=documented(401, 404))
def show_webhook_endpoint(service: ServiceDep, caller: CallerDep, webhook_id: str) -> Response:
    """Show a webhook endpoint."""
    return answer(webhooks.show(service, caller, webhook_id))


@router.post(
    "/webhook_endpoints/{webhook_id}",
    response_model=EndpointObject,
    responses=_WRITES,
    openapi_extra=documented_body(EndpointChange),
)
async def update_webhook_endpoint(
    service: ServiceDep, caller: CallerDep, request: Request, webhook_id: str
) -> Response:
    """Change the name, the URL or the event types of a webhook endpoint."""
    await to_thread.run_sync(webhooks.show, service, caller, webhook_id)
    asked = await read_as(EndpointChange, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(webhooks.change, service, caller, webhook_id, asked))


@router.delete("/webhook_endpoints/{webhook_id}", response_model=DeletedEndpoint, responses=documented(401, 404))
def delete_webhook_endpoint(service: ServiceDep, caller: CallerDep, webhook_id: str) -> Response:
    """Delete a webhook endpoint; pending deliveries to it are dropped."""
    return answer(webhooks.delete(service, caller, webhook_id))


@router.post(
    "/webhook_endpoints/{webhook_id}/rotate_secret",
    response_model=EndpointWithSecret,
    responses=_WRITES,
    openapi_extra=documented_body(RotateRequest),
)
async def rotate_webhook_secret(service: ServiceDep, caller: CallerDep, request: Request, webhook_id: str) -> Response:
    """Make a new signing secret; the old one may stay valid for a day."""
    await to_thread.run_sync(webhooks.show, service, caller, webhook_id)
    asked = await read_as(RotateRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    return answer(await to_thread.run_sync(webhooks.rotate, service, caller, webhook_id, asked, ask))


@router.post(
    "/webhook_endpoints/{webhook_id}/test",
    response_model=SampleResult,
    responses=documented(400, 401, 404, 413, 415, 422, 503),
    openapi_extra=documented_body(SampleRequest),
)
async def test_webhook_endpoint(service: ServiceDep, caller: CallerDep, request: Request, webhook_id: str) -> Response:
    """Send a sample event, and return what the receiver answers."""
    await to_thread.run_sync(webhooks.show, service, caller, webhook_id)
    asked = await read_as(SampleRequest, request, service.settings.max_body_bytes)
    sending = webhooks.send_sample(service, caller, webhook_id, asked.event_type)
    return answer(await unless_gone(request, sending))


@router.get(
    "/webhook_endpoints/{webhook_id}/deliveries",
    response_model=Page[DeliveryObject],
    responses=documented(401, 404, 422),
)
def list_webhook_deliveries(
    service: ServiceDep,
    caller: CallerDep,
    webhook_id: str,
    after: After = None,
    limit: Limit = 20,
    status: DeliveryStatus = None,
) -> Response:
    """List deliveries to a webhook endpoint, newest first; ended ones are kept for 30 days."""
    return answer(webhooks.deliveries(service, caller, webhook_id, after=after, limit=limit, state=status))


@router.get("/webhook_event_types", response_model=EventTypes, responses=documented(401))
def list_webhook_event_types(_caller: CallerDep) -> Response:
    """List the types of events."""
    return answer(EventTypes(data=list(EVENT_TYPES)))
