"""Webhooks: endpoints, and deliveries that are committed with the change that they report."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, case, func, literal, literal_column, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from db import clock, paging
from db.ids import new_id
from db.models import WebhookDelivery, WebhookEndpoint
from db.webhook_secrets import new_nonce

EVENT_TYPES = (
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
)
OLD_SECRET_S = 24 * 3600.0
"""The time for which the previous secret signs too after a rotation, if that is requested."""
_GIVE_UP_S = 72 * 3600.0
_LONGEST_PAUSE_S = 6 * 3600.0
_SAMPLE_ID = "sample"
_FRESH = {"synchronize_session": False}
# The state is spelled out: a parameter would keep SQLite from the partial index.
_PENDING = WebhookDelivery.state == literal_column("'pending'")
_ENDED = WebhookDelivery.state != literal_column("'pending'")
_ENDPOINT_GONE = {"state": "failed", "error": "the endpoint was deleted"}


class Due(NamedTuple):
    """A delivery to try now, and its endpoint. `nonces` identify the secrets that sign it."""

    id: str
    project_id: str
    endpoint_id: str
    url: str
    body: str
    attempt: int
    nonces: tuple[str, ...]


class Ready(NamedTuple):
    """A delivery that may be tried now, with its endpoint, which may be deleted."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint


class Room(NamedTuple):
    """How many tries may be under way at once, so that slow receivers take no room from others."""

    of_a_project: int
    of_an_endpoint: int


def add(s: Session, project_id: str, *, name: str, url: str, event_types: Sequence[str]) -> WebhookEndpoint:
    now = time.time()
    endpoint = WebhookEndpoint(
        id=new_id("webhook"), project_id=project_id, name=name, url=url, event_types={"types": list(event_types)},
        nonce=new_nonce(), created_at=now, updated_at=now,
    )  # fmt: skip
    s.add(endpoint)
    s.flush()
    return endpoint


def get(s: Session, project_id: str, endpoint_id: str) -> WebhookEndpoint | None:
    """Return the project's endpoint with that id, unless it is deleted."""
    of_project = WebhookEndpoint.project_id == project_id, WebhookEndpoint.deleted_at.is_(None)
    return s.scalars(select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, *of_project)).one_or_none()


def page(s: Session, project_id: str, *, after: str | None, limit: int) -> tuple[list[WebhookEndpoint], bool]:
    """Return a page of the project's endpoints, newest first."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
    query = query.where(WebhookEndpoint.deleted_at.is_(None))
    return paging.page(s, query, WebhookEndpoint.id, after=after, limit=limit)


def change(s: Session, endpoint: WebhookEndpoint, changes: dict[str, Any]) -> WebhookEndpoint:
    """Change the name, url or event_types of an endpoint; equal values change nothing."""
    now = {"name": endpoint.name, "url": endpoint.url, "event_types": endpoint.event_types["types"]}
    if now | changes != now:
        types = changes.pop("event_types", None)
        for name, value in changes.items():
            setattr(endpoint, name, value)
        if types is not None:
            endpoint.event_types = {"types": types}
        endpoint.updated_at = time.time()
        s.flush()
    return endpoint


def rotate(s: Session, endpoint: WebhookEndpoint, *, keep_old: bool) -> WebhookEndpoint:
    """Give the endpoint a new secret; the previous one signs too for a day, if `keep_old`."""
    now = time.time()
    endpoint.old_nonce, endpoint.old_until = (endpoint.nonce, now + OLD_SECRET_S) if keep_old else (None, None)
    endpoint.nonce, endpoint.updated_at = new_nonce(), now
    s.flush()
    return endpoint


def delete(s: Session, endpoint: WebhookEndpoint) -> None:
    """Delete the endpoint: nothing more is sent there. The log of its deliveries is kept for its time."""
    endpoint.deleted_at = time.time()
    pending = WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.state == "pending"
    s.execute(update(WebhookDelivery).where(*pending).values(_ENDPOINT_GONE), execution_options=_FRESH)
    s.flush()


def announce(s: Session, project_id: str, event_type: str, object_id: str) -> None:
    """Add deliveries to the project's endpoints, in the transaction of the change that they report."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
    wanted = [
        endpoint
        for endpoint in s.scalars(query.where(WebhookEndpoint.deleted_at.is_(None)))
        if event_type in endpoint.event_types["types"]
    ]
    if wanted:
        body = _body(event_type, object_id)
        s.add_all([_delivery(s, endpoint, event_type, body, _GIVE_UP_S) for endpoint in wanted])
        s.flush()


def add_sample(s: Session, endpoint: WebhookEndpoint, event_type: str) -> WebhookDelivery:
    """Add a delivery of a sample event, to test the endpoint; it is tried once."""
    delivery = _delivery(s, endpoint, event_type, _body(event_type, _SAMPLE_ID), 0.0)
    s.add(delivery)
    s.flush()
    return delivery


def pending_samples(s: Session, endpoint_id: str) -> list[WebhookDelivery]:
    """Return the samples for an endpoint that wait or are being tried; none is added until the transaction ends."""
    s.execute(select(WebhookEndpoint.id).where(WebhookEndpoint.id == endpoint_id).with_for_update(key_share=True))
    is_sample = WebhookDelivery.body.contains(f'"data":{{"id":"{_SAMPLE_ID}"}}')
    query = select(WebhookDelivery).where(_PENDING, WebhookDelivery.endpoint_id == endpoint_id, is_sample)
    return list(s.scalars(query.order_by(WebhookDelivery.id)))


def any_tried_since(s: Session, project_id: str, moment: float) -> bool:
    """Return whether a try of a delivery that is still pending began after that moment, so that a courier is at work."""
    query = select(WebhookDelivery.id).where(_PENDING, WebhookDelivery.project_id == project_id)
    return s.scalars(query.where(WebhookDelivery.tried_at > moment).limit(1)).first() is not None


def ready(s: Session, room: Room, under_way: Mapping[str, int], *, limit: int) -> list[Ready]:
    """Return deliveries to try now, as many as there is room for, in the order of their turns.

    Projects take turns: the one that has the fewest tries under way goes first, with its delivery that is due longest.
    `under_way` counts tries that have not ended, by the id of their project and of their endpoint. All deliveries that
    are due are ranked, so call it outside a write transaction.
    """
    due_at = WebhookDelivery.due_at
    place = func.row_number().over(partition_by=WebhookDelivery.endpoint_id, order_by=due_at).label("place")
    columns = WebhookDelivery.id, WebhookDelivery.project_id, WebhookDelivery.endpoint_id, due_at
    waiting = select(*columns, place).where(*_may_be_tried(s, room, under_way)).subquery()
    of_endpoint = waiting.c.place + _tries(under_way, waiting.c.endpoint_id)
    turn = func.row_number().over(partition_by=waiting.c.project_id, order_by=waiting.c.due_at).label("turn")
    fitting = select(waiting.c.id, waiting.c.project_id, waiting.c.due_at, turn)
    fitting = fitting.where(of_endpoint <= room.of_an_endpoint).subquery()
    of_project = fitting.c.turn + _tries(under_way, fitting.c.project_id)
    query = select(WebhookDelivery, WebhookEndpoint).join(fitting, fitting.c.id == WebhookDelivery.id)
    query = query.join(WebhookEndpoint).where(of_project <= room.of_a_project)
    return [Ready(*row) for row in s.execute(query.order_by(of_project, fitting.c.due_at).limit(limit))]


def take(s: Session, chosen: Iterable[Ready], *, hold_s: float) -> list[Due]:
    """Take deliveries that were ready, except those that another courier has taken since or that have ended.

    Nobody else tries them for `hold_s`. Those whose endpoint is deleted fail: an event that was announced while the
    endpoint was being deleted adds a delivery that the deletion does not see.
    """
    now, taken = clock.now(s), list[Due]()
    for delivery, endpoint in chosen:
        held = {"due_at": now + hold_s, "tried_at": now, "attempts": delivery.attempts + 1}
        ours = WebhookDelivery.id == delivery.id, WebhookDelivery.attempts == delivery.attempts
        changed = update(WebhookDelivery).where(*ours, WebhookDelivery.state == "pending")
        changed = changed.values(held if endpoint.deleted_at is None else _ENDPOINT_GONE).returning(WebhookDelivery.id)
        is_ours = s.scalars(changed, execution_options=_FRESH).one_or_none() is not None
        if is_ours and endpoint.deleted_at is None:
            old = endpoint.old_nonce if (endpoint.old_until or 0) > now else None
            nonces = (endpoint.nonce,) if old is None else (endpoint.nonce, old)
            target = delivery.id, delivery.project_id, endpoint.id, endpoint.url, delivery.body
            taken.append(Due(*target, attempt=delivery.attempts + 1, nonces=nonces))
    return taken


def _may_be_tried(s: Session, room: Room, under_way: Mapping[str, int]) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for deliveries whose time has come, of projects and endpoints that have room."""
    projects = [name for name, count in under_way.items() if count >= room.of_a_project]
    endpoints = [name for name, count in under_way.items() if count >= room.of_an_endpoint]
    return (
        _PENDING, WebhookDelivery.due_at <= clock.moment(s),
        WebhookDelivery.project_id.not_in(projects), WebhookDelivery.endpoint_id.not_in(endpoints),
    )  # fmt: skip


def _tries(under_way: Mapping[str, int], owner_id: ColumnElement[str]) -> ColumnElement[int]:
    """Return how many tries of a project or an endpoint are under way, as an SQL expression."""
    return case(dict(under_way), value=owner_id, else_=0) if under_way else literal(0)


def settle(s: Session, tried: Due, *, status_code: int | None, error: str | None, pause_s: float) -> None:
    """Record how a try ended. After a failure the next follows in `pause_s`, tripled each time, until it is too late."""
    query = select(WebhookDelivery).where(WebhookDelivery.id == tried.id, WebhookDelivery.state == "pending")
    delivery = s.scalars(query.where(WebhookDelivery.attempts == tried.attempt).with_for_update()).one_or_none()
    if delivery is None:  # tried by another courier meanwhile, or its endpoint is deleted
        return
    delivery.status_code, delivery.error = status_code, error
    now = clock.now(s)
    delivery.due_at = now + min(pause_s * 3 ** min(tried.attempt - 1, 20), _LONGEST_PAUSE_S)
    if error is None:
        delivery.state = "delivered"
    elif delivery.due_at > delivery.give_up_at:
        delivery.state = "failed"
    s.flush()


def deliveries(
    s: Session, endpoint_id: str, *, after: str | None, limit: int, state: str | None
) -> tuple[list[WebhookDelivery], bool]:
    """Return a page of the endpoint's deliveries, newest first."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    return paging.page(s, query, WebhookDelivery.id, after=after, limit=limit)


def delivery(s: Session, delivery_id: str) -> WebhookDelivery | None:
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
    return s.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def purge(s: Session, older_than_s: float, limit: int = 200) -> int:
    """Remove at most `limit` deliveries that have ended and are older than that, and return how many."""
    old = select(WebhookDelivery.id).where(_ENDED, WebhookDelivery.created_at < time.time() - older_than_s)
    gone = delete_rows(WebhookDelivery).where(WebhookDelivery.id.in_(old.limit(limit))).returning(WebhookDelivery.id)
    return len(s.scalars(gone, execution_options=_FRESH).all())


def _body(event_type: str, object_id: str) -> str:
    event = {"object": "event", "id": new_id("evt"), "type": event_type}
    return json.dumps(event | {"created_at": int(time.time()), "data": {"id": object_id}}, separators=(",", ":"))


def _delivery(
    s: Session, endpoint: WebhookEndpoint, event_type: str, body: str, give_up_after_s: float
) -> WebhookDelivery:
    now = clock.now(s)
    return WebhookDelivery(
        id=new_id("delivery"), endpoint_id=endpoint.id, project_id=endpoint.project_id, event_type=event_type,
        body=body, state="pending", attempts=0, created_at=time.time(), due_at=now, give_up_at=now + give_up_after_s,
    )  # fmt: skip
