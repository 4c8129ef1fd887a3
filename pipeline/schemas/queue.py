"""The answer of `/api/queue/status`, as models; see `responses`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.schemas.responses import Answer, Count, Time

Seconds = Annotated[float, Field(ge=0)]


class ByStatus(Answer):
    """Jobs that have not ended, and the dead."""

    waiting: Annotated[Count, Field(description="for admission")]
    pending: Annotated[Count, Field(description="between two turns")]
    processing: Annotated[Count, Field(description="in a turn just now")]
    dead: Annotated[Count, Field(description="exhausted, poison or past their deadline")]


class JobCounts(Answer):
    """How many jobs there are."""

    by_status: ByStatus
    by_step: Annotated[dict[str, int], Field(description="those admitted, by what their next turn does")]


class Lane(Answer):
    """The road to one provider or endpoint."""

    name: str
    in_flight: Count
    max_in_flight: Count
    requests_last_minute: Annotated[Count | None, Field(description="null where nothing bounds them")]
    requests_per_minute: Annotated[Count | None, Field(description="paid calls that may begin in any 60 seconds")]
    paused: bool
    paused_until: Annotated[Time | None, Field(description="null while paused: until it is resumed")]
    paused_reason: Annotated[str | None, Field(description="of the pause, or of the last one while it is probed")]
    probing: Annotated[bool, Field(description="the provider closed it: one call at a time until it works again")]


class PausedUser(Answer):
    """A user of whom nothing is started just now."""

    user: str
    tenant: str
    paused: Literal[True]
    paused_until: Annotated[Time | None, Field(description="null: until it is resumed")]
    paused_reason: str | None


class WorkerSeen(Answer):
    """A worker that was seen in the last 90 seconds."""

    id: str
    host: str
    pid: int
    version: str
    started_at: Time
    seen_at: Time


class Times(Answer):
    """How long something took, in seconds."""

    count: Count
    average: Seconds | None
    p95: Seconds | None


class HourTimes(Answer):
    """How long each part took."""

    waiting: Times
    submitting: Times
    processing: Times
    storing: Times
    delivery: Times
    total: Times


class HourProvider(Answer):
    """How the providers behaved."""

    calls: Count
    errors: Count
    rate_limited: Count
    cost_usd: float


class HourWebhooks(Answer):
    """How the receivers behaved."""

    sent: Annotated[Count, Field(description="attempts")]
    delivered: Count
    retried: Annotated[Count, Field(description="attempts that failed")]
    failed: Annotated[Count, Field(description="deliveries that were given up")]


class LastHour(Answer):
    """About the last 60 minutes; figures come a few seconds late."""

    window_seconds: Annotated[Count, Field(description="how much time the figures are of")]
    completed: Count
    failed: Count
    cancelled: Count
    completed_per_minute: Seconds
    failed_per_minute: Seconds
    success_rate: Annotated[float | None, Field(ge=0, le=1)]
    retries: Count
    seconds: HourTimes
    provider: HourProvider
    webhooks: HourWebhooks


class QueueStatus(Answer):
    """What waits, what runs, what is stuck and why. A tenant's key is shown its own counts alone."""

    object: Literal["queue"]
    at: Time
    generations: JobCounts
    deliveries: JobCounts
    oldest_waiting_seconds: Seconds | None
    held: Annotated[Count, Field(description="generations whose paid call has an unknown outcome")]
    waiting_for_spend: Annotated[
        Count,
        Field(description="generations for which no cap on spending leaves room today: they start after midnight"),
    ]
    paused: Annotated[bool, Field(description="whether the whole service is: then nobody's generation is started")]
    paused_until: Annotated[Time | None, Field(description="null while paused: until it is resumed")]
    paused_reason: str | None
    paused_users: Annotated[list[PausedUser], Field(description="the first 100 of them, by tenant and name")]
    lanes: list[Lane] | None = None
    workers: list[WorkerSeen] | None = None
    last_hour: LastHour | None = None


class LaneState(Answer):
    """A lane, or a user, after it was paused or resumed; `*` is the whole service."""

    object: Literal["lane"]
    name: str
    tenant: Annotated[str | None, Field(description="whose user it is; null for anything but a user")]
    paused: bool
    paused_until: Annotated[Time | None, Field(description="null while paused: until it is resumed")]
    paused_reason: str | None


class DeadError(Answer):
    """Why it died."""

    code: str | None
    message: str | None


class DeadLetter(Answer):
    """A job that was given up."""

    id: Annotated[str, Field(description="of the generation, or of the delivery")]
    object: Literal["dead"]
    kind: Literal["generation", "delivery"]
    generation: str | None
    type: Annotated[str | None, Field(description="of a delivery: its event")]
    lane: str
    step: str
    attempts: Count
    error: DeadError
    died_at: Time


class DeadGroup(Answer):
    """Dead letters that died of the same."""

    object: Literal["dead_group"]
    kind: Literal["generation", "delivery"]
    lane: str
    error_code: str | None
    count: Count
    oldest: Time
    newest: Time
    sample: Annotated[str | None, Field(description="the message of one of them")]


class DeadList(Answer):
    """A page of dead letters, or of groups of them."""

    object: Literal["list"]
    data: list[DeadLetter] | list[DeadGroup]
    has_more: bool
    next_cursor: str | None


class RedrivenCounts(Answer):
    """How many went on."""

    generation: Count
    delivery: Count


class DeadRedriven(Answer):
    """What went on, what it is expected to cost in micro-USD, and what was refused, by reason."""

    object: Literal["dead_redrive"]
    dry_run: bool
    redriven: RedrivenCounts
    estimated_cost_micros: Count
    refused: dict[str, int]
    next_cursor: Annotated[str | None, Field(description="for `after` of the next request, while there are more")]
