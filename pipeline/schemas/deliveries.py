"""Webhook deliveries as the API shows them; see `responses`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.schemas.responses import Answer, Attempt, Count, Time

State = Literal["pending", "delivered", "dead", "cancelled"]


class Delivery(Answer):
    """One event on its way to one place."""

    id: Annotated[str, Field(pattern="^dlv_[0-9A-Za-z]+$")]
    object: Literal["delivery"]
    event_id: str
    type: str
    generation: str | None
    endpoint: str
    url: str | None
    redelivery: Annotated[Count, Field(description="0 for the first, then one more for each redelivery")]
    state: State
    attempt_count: Count
    created_at: Time
    next_attempt_at: Time | None
    finished_at: Time | None
    error_code: str | None
    last_error: str | None


class Header(Answer):
    """One header."""

    name: str
    value: str


class AttemptInFull(Attempt):
    """The same with all that went over the wire. Times are in milliseconds and not there where nothing was measured."""

    address: Annotated[str | None, Field(description="the IP address that was used; or `proxy`: see EGRESS_PROXY")]
    connection: Annotated[
        Literal["new", "reused", "replaced"] | None,
        Field(description="`replaced`: a reused one had gone stale, and it was sent once more at once"),
    ]
    dns_milliseconds: float | None
    connect_milliseconds: float | None
    tls_milliseconds: float | None
    first_byte_milliseconds: float | None
    request_headers: Annotated[list[Header], Field(description="as sent; the values of an endpoint's own are hidden")]
    request_bytes: Annotated[int | None, Field(description="bytes of the body that were sent")]
    response_headers: Annotated[list[Header], Field(description="the first 20")]


class DeliveryWithAttempts(Delivery):
    """The same with the bytes that are sent, and every attempt."""

    body: Annotated[str | None, Field(description="the very text that is signed; null once it was forgotten")]
    waiting_for: Annotated[str | None, Field(description="what a pending delivery waits for, in words")]
    attempts: list[AttemptInFull]


class DeliveryList(Answer):
    """A page of deliveries, newest first."""

    object: Literal["list"]
    data: list[Delivery]
    has_more: bool
    next_cursor: str | None
