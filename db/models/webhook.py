"""Webhooks: endpoints, and the deliveries of events to them."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class WebhookEndpoint(Row):
    """A receiver. `event_types` is {"types": [...]}.

    No signing secret is stored: it is derived from the service's secret, the id and `nonce` (db.webhook_secrets). After
    a rotation the secret of `old_nonce` signs too until `old_until`.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[dict[str, Any]]
    nonce: Mapped[str]
    old_nonce: Mapped[str | None]
    old_until: Mapped[float | None]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    deleted_at: Mapped[float | None]


class WebhookDelivery(Row):
    """An event for one endpoint, written in the event's transaction and kept as the log of its delivery.

    `body` is signed and sent unchanged at every try. A pending delivery is due at `due_at`; a process moves that time
    on before it tries, so that no other one does so meanwhile. After `give_up_at` there are no more tries.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('pending','delivered','failed')", name="state"),
        Index(None, "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_due",
            "due_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
        Index(
            "ix_webhook_deliveries_ended",
            "created_at",
            postgresql_where=text("state <> 'pending'"),
            sqlite_where=text("state <> 'pending'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    event_type: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int]
    created_at: Mapped[float]
    due_at: Mapped[float]
    give_up_at: Mapped[float]
    tried_at: Mapped[float | None]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
