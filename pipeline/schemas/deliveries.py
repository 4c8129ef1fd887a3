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


class DeliveryWithAttempts(Delivery):
    """The same with every attempt."""

    attempts: list[Attempt]


class DeliveryList(Answer):
    """A page of deliveries, newest first."""

    object: Literal["list"]
    data: list[Delivery]
    has_more: bool
    next_cursor: str | None
