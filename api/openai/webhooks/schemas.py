"""Webhook endpoints as OpenAI's clients send and read them, and their deliveries, which OpenAI does not have."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.answers import Object
from db.models import WebhookDelivery, WebhookEndpoint
from db.webhook_secrets import PREFIX
from engine.parts import Text

EventType = Literal[
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
]
State = Literal["pending", "delivered", "failed"]
_HINT = 4
"""How many characters of a secret its hint shows."""


def _each_once(event_types: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(event_types))


_Name = Annotated[Text, Field(min_length=1, max_length=256)]
_Url = Annotated[Text, Field(min_length=1, max_length=2048)]
_EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=100), AfterValidator(_each_once)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EndpointRequest(_Request):
    """The body of `webhooks.create`."""

    name: _Name
    url: _Url
    event_types: _EventTypes


class EndpointChange(_Request):
    """The body of `webhooks.update`."""

    name: _Name | None = None
    url: _Url | None = None
    event_types: _EventTypes | None = None


class RotateRequest(_Request):
    """The body of `webhooks.rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class SampleRequest(_Request):
    """The body of `webhooks.test`."""

    event_type: EventType


class EndpointObject(Object):
    """A webhook endpoint. Its secret is shown only when it is made or rotated."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[EventType]
    created_at: int
    updated_at: int
    signing_secret_hint: str


class EndpointWithSecret(EndpointObject):
    """A webhook endpoint with its new secret."""

    signing_secret: str


class DeletedEndpoint(Object):
    """The confirmation that a webhook endpoint was deleted."""

    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class SampleResult(BaseModel):
    """The receiver's answer to a sample event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: EventType
    status_code: int
    success: Literal[True] = True


class EventTypes(BaseModel):
    """All types of events."""

    object: Literal["list"] = "list"
    data: list[EventType]


class DeliveryObject(Object):
    """The delivery of an event: `id` is the webhook-id of every attempt, `body` is what is signed and sent.

    `status_code` and `error` are those of the last attempt; `next_attempt_at` is set while the delivery is pending.
    """

    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    webhook_endpoint_id: str
    event_type: EventType
    body: str
    status: State
    attempts: int
    created_at: float
    last_attempt_at: float | None
    next_attempt_at: float | None
    status_code: int | None
    error: str | None


def endpoint_object(endpoint: WebhookEndpoint, secret: str) -> EndpointObject:
    return EndpointObject.model_validate(
        {
            "id": endpoint.id,
            "name": endpoint.name,
            "url": endpoint.url,
            "event_types": endpoint.event_types["types"],
            "created_at": int(endpoint.created_at),
            "updated_at": int(endpoint.updated_at),
            "signing_secret_hint": f"{PREFIX}...{secret[-_HINT:]}",
        }
    )


def delivery_object(delivery: WebhookDelivery) -> DeliveryObject:
    return DeliveryObject.model_validate(
        {
            "id": delivery.id,
            "webhook_endpoint_id": delivery.endpoint_id,
            "event_type": delivery.event_type,
            "body": delivery.body,
            "status": delivery.state,
            "attempts": delivery.attempts,
            "created_at": delivery.created_at,
            "last_attempt_at": delivery.tried_at,
            "next_attempt_at": delivery.due_at if delivery.state == "pending" else None,
            "status_code": delivery.status_code,
            "error": delivery.error,
        }
    )
