"""Sending again all that failed: what is asked for, and how far it is. See `requests` and `responses`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from pipeline.schemas.requests import Body, Short
from pipeline.schemas.responses import Answer, Count, Time
from webhooks.events import EventType


def _moment(value: object) -> object:
    """A time as a text, which strict models would not read."""
    if not isinstance(value, str):
        raise ValueError("is a time like 2026-11-22T14:00:00Z")
    return datetime.fromisoformat(value)


Moment = Annotated[AwareDatetime, BeforeValidator(_moment, json_schema_input_type=AwareDatetime)]
Type = Annotated[EventType, Field(strict=False)]


class Recover(Body):
    """Which deliveries are sent again: those that were made since a time, and failed."""

    since: Annotated[Moment, Field(description="made since")]
    until: Annotated[Moment | None, Field(description="made before; else until now")] = None
    endpoint: Annotated[Short | None, Field(description="to this one only, which is opened if failures closed it")] = (
        None
    )
    types: Annotated[list[Type], Field(min_length=1, max_length=20)] | None = None

    @model_validator(mode="after")
    def _forwards(self) -> Recover:
        if self.until is not None and self.until <= self.since:
            raise ValueError("until is not later than since")
        return self


class RecoveryAsked(Answer):
    """What a recovery was asked for."""

    since: Time
    until: Time
    endpoint: str | None
    types: list[str] | None


class Recovery(Answer):
    """All that failed since a time, sent again: how far that is."""

    id: Annotated[str, Field(pattern="^rcv_[0-9A-Za-z]+$")]
    object: Literal["recovery"]
    state: Literal["pending", "running", "done", "failed"]
    total: Annotated[Count, Field(description="deliveries that had failed when it was asked for")]
    sent: Annotated[Count, Field(description="set going so far; their deliveries tell how they fare")]
    skipped: Annotated[Count, Field(description="their endpoint is off or gone, or what they said was deleted")]
    asked: RecoveryAsked
    created_at: Time
    finished_at: Time | None


class RecoveryList(Answer):
    """A page of recoveries, newest first."""

    object: Literal["list"]
    data: list[Recovery]
    has_more: bool
    next_cursor: str | None
