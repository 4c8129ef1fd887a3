"""Users, whom tenants name in their requests: their share of the places, and how they fare."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.schemas.requests import Body, Whole
from pipeline.schemas.responses import Answer, Count, Time

LEAST_WEIGHT = 0.01
MOST_WEIGHT = 100.0
MOST_IN_FLIGHT = 1_000_000


class UserShare(Body):
    """What one user gets. What is left out, or null, is as if it had never been set."""

    weight: Annotated[
        float | None,
        Field(
            ge=LEAST_WEIGHT,
            le=MOST_WEIGHT,
            allow_inf_nan=False,
            description="how much of the places against other users, 1 unless set: with 3 three times as many",
        ),
    ] = None
    max_in_flight: Annotated[
        Annotated[int, Field(ge=0, le=MOST_IN_FLIGHT), Whole] | None,
        Field(description="generations in flight at once, at all providers together; null: USER_MAX_IN_FLIGHT"),
    ] = None


class User(Answer):
    """What is set for a user, and how it stands with his generations."""

    object: Literal["user"]
    user: Annotated[str | None, Field(description="as requests name him; null: all that name nobody")]
    tenant: str
    weight: Annotated[float, Field(description="1 unless set")]
    max_in_flight: Annotated[Count | None, Field(description="his own bound; null: USER_MAX_IN_FLIGHT")]
    paused: bool
    paused_until: Annotated[Time | None, Field(description="null while paused: until it is resumed")]
    paused_reason: str | None
    waiting: Annotated[Count, Field(description="generations that wait to be started")]
    in_flight: Annotated[Count, Field(description="generations that were started and have not ended")]
    spent_today_micros: Annotated[
        Count, Field(description="spent or set aside today (UTC), in micro-USD, as SPEND_PER_USER_DAY counts")
    ]


class UserList(Answer):
    """A page of them, by tenant and name."""

    object: Literal["list"]
    data: list[User]
    has_more: bool
    next_cursor: Annotated[str | None, Field(description="for `after` of the next page")]
