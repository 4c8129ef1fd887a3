"""Bodies of answers and of webhooks, as models.

`views` and the routes build the same shapes by hand, since nothing that we send needs validating in production; tests
hold every real answer against these, strictly. Units: `duration` in seconds, `processingTime` and `milliseconds` in
milliseconds, times in RFC 3339 UTC, `progress` 0..100.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from pipeline.lifecycle import GenerationStatus, Stage
from pipeline.schemas.requests import IMAGE_TYPES

Status = Literal["queued", "processing", "completed", "failed", "cancelled"]
assert set(Status.__args__) == set(GenerationStatus)  # type: ignore[attr-defined]

Time = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"),
    Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-24T05:58:38.674Z"]),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


def _open(schema: dict[str, Any]) -> None:
    """Later versions may answer with more members, so that readers are not told that there are none."""
    schema.pop("additionalProperties", None)


class Answer(BaseModel):
    """Strict on types and names: what is not declared here is not sent."""

    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=to_camel, frozen=True, json_schema_extra=_open
    )


class ShownImage(Answer):
    """A first or last frame: its address, or the type of the bytes that were sent."""

    url: str | None = None
    mime_type: Literal["image/png", "image/jpeg", "image/webp"] | None = None


assert set(IMAGE_TYPES) == {"image/png", "image/jpeg", "image/webp"}


class ShownParameters(Answer):
    """What was asked for; members that were left out are absent."""

    duration: int | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    seed: int | None = None
    audio: bool | None = None
    negative_prompt: str | None = None
    image: ShownImage | None = None
    last_image: ShownImage | None = None


class Eta(Answer):
    """When the provider should have finished: half of such generations have by `p50`, nine of ten by `p90`."""

    p50: Time
    p90: Time


class ShownFallback(Answer):
    """Another provider that would be asked."""

    provider: str
    model: str | None


class Result(Answer):
    """The video, once it is stored and verified."""

    video_url: Annotated[str | None, Field(description="plays without a key; null once the video was removed")]
    duration: Annotated[float | None, Field(description="seconds, as measured in the file")]
    width: int | None
    height: int | None
    has_audio: bool
    bytes: Count | None
    sha256: Sha256
    content_type: Literal["video/mp4"]
    processing_time: Annotated[Count, Field(description="milliseconds from createdAt to completedAt")]


class Failure(Answer):
    """Why a generation failed."""

    code: Annotated[str, Field(description="for programs; new ones may come", examples=["content_blocked"])]
    message: Annotated[str | None, Field(description="for people")]
    retryable: Annotated[bool, Field(description="whether asking anew may help")]


class ShownHold(Answer):
    """What is at stake while nobody can tell what became of a paid call."""

    reason: str | None
    at_stake_micros: Annotated[Count, Field(description="the list price of the call, in micro-USD")]
    what_to_do: str


class GenerationLinks(Answer):
    """Where to go from here; `content` only once there is a video."""

    self: str
    events: str
    cancel: str
    content: str | None


class Generation(Answer):
    """What was asked for, where it stands, and what came of it."""

    id: Annotated[str, Field(pattern=r"^gen_[0-9A-Za-z]+$")]
    object: Literal["generation"]
    job_id: Annotated[str, Field(description="the same as `id`")]
    generation_id: Annotated[str, Field(description="the app's own id, or ours if it gave none")]
    user_id: str | None
    status: Status
    stage: Annotated[
        str | None,
        Field(description="more about a run under way; new ones may come", examples=[stage.value for stage in Stage]),
    ]
    progress: Annotated[int | None, Field(ge=0, le=100, description="per cent, as the provider tells")]
    prompt: str
    provider: str
    model: str | None
    parameters: ShownParameters
    fallback: Annotated[list[ShownFallback], Field(description="who would be asked next, in this order")]
    estimated_cost_micros: Annotated[Count, Field(description="list price of one submission in micro-USD")]
    max_estimated_cost_micros: Annotated[
        Count | None, Field(description="answering a request alone: that of the dearest of several")
    ] = None
    eta: Annotated[Eta | None, Field(description="while its provider works: when that should be done")]
    warnings: Annotated[list[str], Field(description="what a person should know about what was asked")]
    billed: Annotated[
        Literal["yes", "no", "unknown"] | None,
        Field(description="whether anything was charged for it: once it has ended, or its cancel was asked for"),
    ]
    held: Annotated[ShownHold | None, Field(description="with the stage `held`")]
    priority: Annotated[int, Field(ge=1, le=10)]
    run: Annotated[int, Field(ge=1, description="grows by one with every redrive")]
    created_at: Time
    started_at: Time | None
    completed_at: Annotated[Time | None, Field(description="when it ended, in whichever way")]
    cancel_requested: bool
    expires_at: Annotated[Time | None, Field(description="when the video will be removed")]
    expired: Annotated[bool, Field(description="whether the video was removed")]
    deleted_at: Annotated[Time | None, Field(description="when it was deleted; of its words and files nothing is left")]
    result: Result | None
    error: Failure | None
    links: GenerationLinks
    metadata: dict[str, str]


class GenerationList(Answer):
    """A page of generations."""

    object: Literal["list"]
    data: list[Generation]
    has_more: bool
    next_cursor: Annotated[str | None, Field(description="for `after` of the next page")]


class TimelineLine(Answer):
    """One thing that happened."""

    id: int
    run: int
    at: Time
    event: Annotated[str, Field(description="new ones may come", examples=["queued", "submitted"])]
    detail: dict[str, Any]


class Attempt(Answer):
    """One attempt of a delivery: what was answered, or why nothing was."""

    attempt: int
    at: Time
    status: Annotated[int | None, Field(description="the receiver's HTTP status")]
    reason: str | None
    detail: str | None
    milliseconds: float | None
    response: Annotated[str | None, Field(description="the beginning of the receiver's body")]


class TimelineDelivery(Answer):
    """A webhook of this generation, with its attempts."""

    id: str
    event_id: str
    type: str
    endpoint: str | None
    state: str
    next_attempt_at: Time | None
    last_error: str | None
    attempts: list[Attempt]


class Timeline(Answer):
    """What happened to a generation, oldest first, and how its webhooks fared."""

    object: Literal["timeline"]
    id: str
    data: list[TimelineLine]
    deliveries: list[TimelineDelivery]


class ReadToken(Answer):
    """What opens one generation, and nothing else, without a key."""

    object: Literal["token"]
    token: str
    expires_at: Time
    events_url: Annotated[str, Field(description="for an `EventSource`")]
    video_url: Annotated[str, Field(description="for a `<video>`, once the generation is completed")]


class Health(Answer):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Readiness(Answer):
    """Whether work can be taken and done; each check is `ok` or says what is missing."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


class RedrivePlan(Answer):
    """What a redrive does, or would. Money in micro-USD."""

    from_: Annotated[Literal["store", "poll", "resolve", "submit"], Field(alias="from")]
    estimated_cost_micros: Count
    possibly_paid_micros: Annotated[Count | None, Field(description="null where surely nothing was paid")]
    needs_allow_repay: bool


class RedrivenGeneration(Generation):
    """A generation in its new run, and what that does."""

    redrive: RedrivePlan


class ProblemError(Answer):
    """One mistake: in the body (`pointer`, RFC 6901) or in a parameter."""

    pointer: str | None = None
    parameter: str | None = None
    detail: str
    allowed: Annotated[list[Any] | None, Field(description="what would be taken")] = None


class ProblemBody(Answer):
    """An answer that says no (RFC 9457)."""

    type: Annotated[str, Field(description="a page about this kind of problem")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="what is wrong here, and its mend")]
    instance: str
    code: str
    request_id: str | None
    retryable: Annotated[bool, Field(description="whether the same request may be taken later")]
    errors: list[ProblemError] = []
    existing_id: Annotated[str | None, Field(description="the generation that stands in the way")] = None
    redrive: Annotated[RedrivePlan | None, Field(description="with `repay_needed`: what it would do")] = None
    scope: Annotated[
        Literal["user", "tenant", "provider", "service"] | None,
        Field(description="with `spend_cap`: whose day is spent"),
    ] = None
    limit_micros: Annotated[
        Count | None, Field(description="with `spend_cap`: what a day may cost, unless others'")
    ] = None
    left_micros: Annotated[Count | None, Field(description="with `spend_cap`: what is left of it")] = None
    estimated_cost_micros: Annotated[Count | None, Field(description="with `spend_cap`: what this would cost")] = None
    resets_at: Annotated[Time | None, Field(description="with `spend_cap`: midnight (UTC), if it helps")] = None


class WebhookResult(Answer):
    """The essence of a result."""

    video_url: str | None
    duration: float | None
    processing_time: Count | None


class WebhookData(Generation):
    """The generation as it was when the event happened."""

    sequence: Annotated[int, Field(description="a lower one is older news")]


class WebhookEvent(Answer):
    """The body of a webhook, frozen when the event happened: every attempt sends the same bytes."""

    type: str
    timestamp: Time
    data: WebhookData
    event: str
    job_id: str
    generation_id: str
    user_id: str | None
    status: Status
    result: WebhookResult | None
    error: Annotated[str | None, Field(description="why it failed, in words")]
