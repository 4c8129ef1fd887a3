"""Why a generation stands where it stands, in words and as fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.schemas.responses import Answer, Count, RedrivePlan, Status, Time


class ShownWaiting(Answer):
    """What its turn hangs on. Figures of the service as a whole are for the operator alone."""

    lane: Annotated[str, Field(description="the road in which it waits: `provider:NAME`")]
    detail: Annotated[str | None, Field(description="a pause's reason, or which money is used up")]
    lane_in_flight: Annotated[Count | None, Field(description="for the operator: generations in flight there")]
    lane_places: Annotated[Count | None, Field(description="for the operator: how many may be")]
    requests_per_minute: Annotated[Count | None, Field(description="for the operator; null where nothing bounds them")]
    user_in_flight: Annotated[Count, Field(description="of its user, at all providers together")]
    user_max_in_flight: Annotated[Count | None, Field(description="null where nothing bounds them")]
    user_ahead: Annotated[Count, Field(description="of the same user, how many wait before it")]
    user_weight: float


class ShownHeld(Answer):
    """A paid call of which nobody knows what became, as `GET /api/held` explains it."""

    waits_for_person: bool
    happened: str
    tried: str
    can_still_come: str
    until: Time | None
    then: str
    what_to_do: str


class Trouble(Answer):
    """The last line of its timeline, in this run, that tells why something did not go."""

    at: Time
    event: str
    message: str


class ShownDelivery(Answer):
    """A webhook of it."""

    id: str
    type: str
    endpoint: str | None
    state: str
    next_attempt_at: Time | None
    last_error: str | None


class Explanation(Answer):
    """Why it waits or what it does just now, and what to do."""

    object: Literal["explanation"]
    id: str
    generation_id: Annotated[str, Field(description="the app's own id, or ours if it gave none")]
    at: Time
    status: Status
    stage: str | None
    state: Annotated[
        str,
        Field(
            description="why, for programs; new ones may come",
            examples=["behind", "lane_full", "user_full", "spend", "user_paused", "no_worker", "generating", "failed"],
        ),
    ]
    summary: Annotated[str, Field(description="the same for people, in a few sentences")]
    what_to_do: str
    provider: str
    user_id: str | None
    position: Annotated[
        int | None, Field(ge=1, description="while it waits: its place among all that may start, 1 is next")
    ]
    position_exact: Annotated[bool | None, Field(description="false: it is at least that, and was not counted further")]
    retry_at: Annotated[Time | None, Field(description="when what keeps it ends by itself, where that is known")]
    expected_start: Annotated[Time | None, Field(description="by the pace of its road; null where nobody can tell")]
    waiting: ShownWaiting | None
    next_turn_at: Annotated[Time | None, Field(description="once it was started: when it is looked at next")]
    attempts: Annotated[Count | None, Field(description="failures of this stage")]
    held: ShownHeld | None
    redrive: Annotated[RedrivePlan | None, Field(description="once it has failed: what a redrive would do")]
    worker: Annotated[str | None, Field(description="for the operator: `host:pid` of whoever has its turn just now")]
    workers_alive: Annotated[Count | None, Field(description="for the operator: seen in the last 90 seconds")]
    worker_last_seen_at: Annotated[Time | None, Field(description="for the operator")]
    last_trouble: Trouble | None
    deliveries: list[ShownDelivery]
