"""Webhook endpoints. Deliveries are sent by the reaper's courier, not by this process."""

import asyncio
import time
from urllib.parse import urlsplit

from anyio import to_thread

from api.answers import Page
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, not_found
from api.idempotency import once
from api.openai.webhooks.schemas import (
    DeletedEndpoint,
    DeliveryObject,
    EndpointChange,
    EndpointObject,
    EndpointRequest,
    EndpointWithSecret,
    EventType,
    RotateRequest,
    SampleResult,
    delivery_object,
    endpoint_object,
)
from db import audit, webhooks
from db.idempotency import IdempotentRequest
from db.models import WebhookDelivery, WebhookEndpoint
from db.receivers import Refused
from db.session import Session

_MOST = 50
"""The most endpoints of a project: each event is sent to all that subscribe to it."""
_SAMPLE_S = 45.0
"""Longer than an attempt takes, including the resolution of a slow name."""
_BEGUN_S = 6.0
"""A courier at work begins to send a sample within this, unless other deliveries have taken its room."""
_LONGEST_TRY_S = 90.0
_MOST_SAMPLES = 2
"""The most samples of an endpoint that wait or are being sent."""
_LOOK_EVERY_S = 0.1


def create(
    service: Service, caller: Caller, asked: EndpointRequest, ask: IdempotentRequest | None
) -> EndpointWithSecret:
    """Create an endpoint. Raises ApiError 400 for a URL that is not allowed, and for too many endpoints."""
    _require_reachable(service, asked.url)

    def make() -> EndpointObject:
        if len(webhooks.page(session, caller.project_id, after=None, limit=_MOST)[0]) >= _MOST:
            raise ApiError(400, "too_many_webhooks", f"a project may have at most {_MOST} webhooks; delete one")
        endpoint = webhooks.add(session, caller.project_id, **asked.model_dump())
        audit.note(session, "webhook.create", endpoint.id, {"host": _host(endpoint.url)})
        return _object(service, endpoint)

    with service.database.write() as session:
        return _with_secret(service, session, caller, once(session, ask, EndpointObject, make))


def find(session: Session, caller: Caller, endpoint_id: str) -> WebhookEndpoint:
    """Return an endpoint of the project. Raises ApiError 404 when there is none."""
    endpoint = webhooks.get(session, caller.project_id, endpoint_id)
    if endpoint is None:
        raise not_found("webhook endpoint", endpoint_id)
    return endpoint


def show(service: Service, caller: Caller, endpoint_id: str) -> EndpointObject:
    with service.database.read() as session:
        return _object(service, find(session, caller, endpoint_id))


def page(service: Service, caller: Caller, *, after: str | None, limit: int) -> Page[EndpointObject]:
    with service.database.read() as session:
        rows, has_more = webhooks.page(session, caller.project_id, after=after, limit=limit)
        return Page.of([_object(service, row) for row in rows], has_more)


def change(service: Service, caller: Caller, endpoint_id: str, asked: EndpointChange) -> EndpointObject:
    if asked.url is not None:
        _require_reachable(service, asked.url)
    with service.database.write() as session:
        changes = asked.model_dump(exclude_none=True)
        details = {"changed": sorted(changes)} | ({"host": _host(changes["url"])} if "url" in changes else {})
        endpoint = webhooks.change(session, find(session, caller, endpoint_id), changes)
        audit.note(session, "webhook.update", endpoint.id, details)
        return _object(service, endpoint)


def delete(service: Service, caller: Caller, endpoint_id: str) -> DeletedEndpoint:
    with service.database.write() as session:
        webhooks.delete(session, find(session, caller, endpoint_id))
        audit.note(session, "webhook.delete", endpoint_id)
    return DeletedEndpoint(id=endpoint_id)


def rotate(
    service: Service, caller: Caller, endpoint_id: str, asked: RotateRequest, ask: IdempotentRequest | None
) -> EndpointWithSecret:
    def make() -> EndpointObject:
        endpoint = find(session, caller, endpoint_id)
        webhooks.rotate(session, endpoint, keep_old=asked.keep_old_secret_active_for_24_hours)
        audit.note(session, "webhook.rotate_secret", endpoint_id)
        return _object(service, endpoint)

    with service.database.write() as session:
        return _with_secret(service, session, caller, once(session, ask, EndpointObject, make))


async def send_sample(service: Service, caller: Caller, endpoint_id: str, event_type: EventType) -> SampleResult:
    """Send a sample and wait for what the receiver answers.

    Raises:
        ApiError: 400 when it does not answer, 429 when others are being sent there, 503 when nothing is sent now.
    """
    sample = await to_thread.run_sync(_add_sample, service, caller, endpoint_id, event_type)
    since = time.monotonic()
    while sample.state == "pending" and time.monotonic() < since + (_SAMPLE_S if sample.attempts else _BEGUN_S):
        await asyncio.sleep(_LOOK_EVERY_S)
        sample = await service.look(_delivery, service, sample.id)
    if sample.state == "pending":
        raise await to_thread.run_sync(_not_sent, service, caller)
    if sample.status_code is None:
        raise ApiError(400, "receiver_unreachable", f"the sample did not arrive: {sample.error}", param="url")
    return SampleResult(webhook_endpoint_id=endpoint_id, event_type=event_type, status_code=sample.status_code)


def deliveries(
    service: Service, caller: Caller, endpoint_id: str, *, after: str | None, limit: int, state: str | None
) -> Page[DeliveryObject]:
    with service.database.read() as session:
        find(session, caller, endpoint_id)
        rows, has_more = webhooks.deliveries(session, endpoint_id, after=after, limit=limit, state=state)
        return Page.of([delivery_object(row) for row in rows], has_more)


def _add_sample(service: Service, caller: Caller, endpoint_id: str, event_type: EventType) -> WebhookDelivery:
    with service.database.write() as session:
        endpoint = find(session, caller, endpoint_id)
        pending = webhooks.pending_samples(session, endpoint_id)
        if len(pending) < _MOST_SAMPLES:
            return webhooks.add_sample(session, endpoint, event_type)
        fresh = any(sample.created_at > time.time() - _BEGUN_S for sample in pending)
    raise _busy() if fresh else _not_sent(service, caller)


def _not_sent(service: Service, caller: Caller) -> ApiError:
    """Return the answer for a sample that waits: deliveries of the project keep it waiting, or nothing is sent at all."""
    with service.database.read() as session:
        if webhooks.any_tried_since(session, caller.project_id, time.time() - _LONGEST_TRY_S):
            return _busy()
    message = "webhooks are not sent now: the reaper, `python -m workers.recover`, does not run or has no secret"
    return ApiError(503, "courier_away", message, headers={"Retry-After": "5"})


def _busy() -> ApiError:
    message = "other deliveries of the project are being sent; test the endpoint again when they have ended"
    return ApiError(429, "deliveries_under_way", message, headers={"Retry-After": "30"})


def _delivery(service: Service, delivery_id: str) -> WebhookDelivery:
    with service.database.read() as session:
        found = webhooks.delivery(session, delivery_id)
    assert found is not None, "deliveries are kept for longer than a sample takes"
    return found


def _object(service: Service, endpoint: WebhookEndpoint) -> EndpointObject:
    return endpoint_object(endpoint, service.webhook_secrets.secret_of(endpoint.id, endpoint.nonce))


def _with_secret(service: Service, session: Session, caller: Caller, shown: EndpointObject) -> EndpointWithSecret:
    """Return the object with its secret, which is added last so that no answer remembered for retries contains it."""
    endpoint = find(session, caller, shown.id)
    return EndpointWithSecret(
        **shown.model_dump(), signing_secret=service.webhook_secrets.secret_of(endpoint.id, endpoint.nonce)
    )


def _host(url: str) -> str:
    """Return the host and port of a URL for the audit log: paths and queries of receivers often hold secrets."""
    return urlsplit(url).netloc


def _require_reachable(service: Service, url: str) -> None:
    try:
        service.receivers.read(url)
    except Refused as error:
        raise ApiError(400, "url_not_allowed", f"webhooks are not sent to {url[:200]}: {error}", param="url") from error
