"""Events, where they go, and every try to get them there."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from pipeline.models.columns import Args, added, big, optional_big, optional_text, required_text


class WebhookEndpoint(SQLModel, table=True):
    """Where events go. `secret_ref` is `settings` (WEBHOOK_SECRET) or `own`: the rows of `webhook_secret`.

    `headers` are sealed, since they may hold credentials. `failing_since` is when the first of the failures came that
    no success has ended yet.
    """

    __tablename__ = "webhook_endpoint"
    __table_args__: ClassVar[Args] = (Index("webhook_endpoint_tenant", "tenant_id", "id"),)

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    url: str = required_text()
    events: str = required_text()
    secret_ref: str = required_text()
    created_at: int = big()
    disabled_at: int | None = optional_big()
    disabled_reason: str | None = optional_text()
    description: str | None = optional_text()
    headers: str | None = optional_text()
    ordered: int = added("0", Integer)
    max_in_flight: int | None = None
    rate_per_minute: int | None = None
    failing_since: int | None = optional_big()
    updated_at: int | None = optional_big()
    deleted_at: int | None = optional_big()


class WebhookSecret(SQLModel, table=True):
    """One signing secret of an endpoint, sealed by a key of SECRET_KEY. `kind` is `v1` (HMAC) or `v1a` (Ed25519)."""

    __tablename__ = "webhook_secret"
    __table_args__: ClassVar[Args] = (Index("webhook_secret_endpoint", "endpoint_id", "id"),)

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    endpoint_id: str = required_text()
    kind: str = required_text()
    sealed: str = required_text()
    hint: str = required_text()
    created_at: int = big()
    expires_at: int | None = optional_big()


class WebhookRecovery(SQLModel, table=True):
    """Sending again all that failed since a time: a job of its own, with its progress.

    `skipped` are those that could not be sent again: their endpoint is switched off, or what they said was deleted.
    """

    __tablename__ = "webhook_recovery"
    __table_args__: ClassVar[Args] = (Index("webhook_recovery_list", "tenant_id", "id"),)

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    asked: str = required_text()
    state: str = required_text()
    total: int = big()
    done: int = big()
    skipped: int = big()
    after: str | None = optional_text()
    created_at: int = big()
    finished_at: int | None = optional_big()


class WebhookEvent(SQLModel, table=True):
    """Something that happened; the body is frozen once. One terminal event per run: the index forbids a second."""

    __tablename__ = "webhook_event"
    __table_args__: ClassVar[Args] = (
        Index(
            "webhook_event_terminal",
            "generation_id",
            "run",
            unique=True,
            postgresql_where=text("terminal = 1"),
            sqlite_where=text("terminal = 1"),
        ),
        Index("webhook_event_generation", "generation_id", "sequence"),
    )

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    generation_id: str = required_text()
    run: int = Field(default=1)
    sequence: int = Field(default=0)
    type: str = required_text()
    terminal: int = Field(default=0)
    body: str = required_text()
    created_at: int = big()


class WebhookDelivery(SQLModel, table=True):
    """One event on its way to one place."""

    __tablename__ = "webhook_delivery"
    __table_args__: ClassVar[Args] = (
        UniqueConstraint("event_id", "endpoint_id", "redelivery", name="webhook_delivery_once"),
        Index("webhook_delivery_list", "tenant_id", "id"),
        Index("webhook_delivery_endpoint", "endpoint_id", "id"),
        Index(
            "webhook_delivery_failing",
            "endpoint_id",
            "id",
            postgresql_where=text("state = 'pending' AND error_code IS NOT NULL"),
            sqlite_where=text("state = 'pending' AND error_code IS NOT NULL"),
        ),
        Index(
            "webhook_delivery_dead",
            "tenant_id",
            "id",
            postgresql_where=text("state = 'dead'"),
            sqlite_where=text("state = 'dead'"),
        ),
        Index(
            "webhook_delivery_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    event_id: str = required_text()
    endpoint_id: str = required_text()
    url: str | None = optional_text()
    secret_ref: str = required_text()
    redelivery: int = Field(default=0)
    state: str = required_text()
    attempts: int = Field(default=0)
    created_at: int = big()
    next_at: int | None = optional_big()
    finished_at: int | None = optional_big()
    last_error: str | None = optional_text()
    error_code: str | None = optional_text()


class WebhookAttempt(SQLModel, table=True):
    """One try of a delivery: what was answered, in how many milliseconds, and what to do about it.

    `lane` is that of its delivery: by it the attempts of one endpoint are counted.
    """

    __tablename__ = "webhook_attempt"
    __table_args__: ClassVar[Args] = (
        Index("webhook_attempt_delivery", "delivery_id", "id"),
        Index("webhook_attempt_lane", "lane", "at"),
    )

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    delivery_id: str = required_text()
    attempt: int = Field(default=1)
    url: str = required_text()
    address: str | None = optional_text()
    status: int | None = None
    reason: str = required_text()
    detail: str = required_text()
    response: str | None = optional_text()
    ms: int = Field(default=0)
    at: int = big()
    request_headers: str | None = optional_text()
    request_bytes: int | None = None
    response_headers: str | None = optional_text()
    dns_ms: int | None = None
    connect_ms: int | None = None
    tls_ms: int | None = None
    first_byte_ms: int | None = None
    reused: int | None = None
    lane: str | None = optional_text()
