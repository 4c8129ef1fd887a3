"""What was paid, as the API shows it; see `responses`. Money is in micro-USD."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.lifecycle import SubmissionOutcome
from pipeline.schemas.responses import Answer, Count, Time

Outcome = Literal["intended", "accepted", "unknown", "succeeded", "failed", "rejected", "abandoned"]
assert set(Outcome.__args__) == set(SubmissionOutcome)  # type: ignore[attr-defined]


class UsageSum(Answer):
    """Possibly-paid calls, added up. `submissions` is the sum of the five that follow it."""

    submissions: Count
    succeeded: Count
    failed: Annotated[Count, Field(description="or refused, and what it cost is known")]
    not_taken: Annotated[Count, Field(description="by the word of a person who looked (resolve)")]
    open: Annotated[Count, Field(description="under way")]
    unclear: Annotated[Count, Field(description="whether they were charged is not known")]
    cost_micros: Annotated[Count, Field(description="reported by the provider, else by the list")]
    open_micros: Annotated[Count, Field(description="list prices of what is under way or unclear")]
    total_micros: Annotated[Count, Field(description="both together")]


class UsageRow(UsageSum):
    """The part of one user, provider, model or day."""

    group: Annotated[str | None, Field(description="the user, provider, model or day (UTC); null: none was named")]
    provider: Annotated[str | None, Field(description="of a model")]


class Usage(Answer):
    """What was submitted in a span of time, and what it cost."""

    object: Literal["usage"]
    group_by: Literal["user", "provider", "model", "day"]
    since: Time
    until: Annotated[Time | None, Field(description="null: until now")]
    tenant: Annotated[str | None, Field(description="null: all of them")]
    data: Annotated[list[UsageRow], Field(description="the dearest first; days: the latest first")]
    total: UsageSum
    has_more: Annotated[bool, Field(description="whether there are more groups than `limit`; `total` has them all")]


class SubmissionError(Answer):
    """Why it was refused, failed, or is unclear."""

    code: str
    message: str | None


class Submission(Answer):
    """One possibly-paid call."""

    object: Literal["submission"]
    run: Annotated[int, Field(ge=1)]
    provider: str
    model: str | None
    outcome: Outcome
    billed: Literal["yes", "no", "unknown"]
    estimate_micros: Count
    cost_micros: Annotated[Count | None, Field(description="null while it is not known")]
    operation: Annotated[str | None, Field(description="the provider's id of the work")]
    error: SubmissionError | None
    intended_at: Time
    answered_at: Time | None
    closed_at: Time | None


class SubmissionList(Answer):
    """All possibly-paid calls of a generation, in whichever run, oldest first."""

    object: Literal["list"]
    data: list[Submission]
    has_more: Literal[False]
    next_cursor: None
