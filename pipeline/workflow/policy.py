"""When a generation is polled, tried again and given up. Pure: values from settings, jitter as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.lifecycle import RetryPolicy, Step
from providers.base import Catalogue, Model

NO_BOUND = 1_000_000
USUAL_SECONDS = 60.0
MOST_SAID = 1.5
"""The first look does not wait for more than so many times what the catalogue says."""
FIRST_LOOK = 0.8


@dataclass(frozen=True, slots=True)
class Pace:
    """How a generation is looked at, in seconds: the provider's minimum between polls, how long it usually takes, and
    when it may be ready for the first look."""

    poll_seconds: float
    typical_seconds: float
    soon_seconds: float


def pace_of(catalogue: Catalogue, model: str | None, learned: float | None = None, soon: float | None = None) -> Pace:
    """The pace of a model: as our own history tells (what is usual, and what the quickest take), else as its catalogue
    does.

    What we have seen is never quicker than our looks were. So a late first look must not make the next one late: it
    goes by the quickest, which fall with every look that came too late, and by the catalogue in any case.
    """
    known: Model | None = catalogue.models.get(model or catalogue.default_model)
    said = known.typical_seconds if known else USUAL_SECONDS
    typical = said if learned is None else learned
    return Pace(catalogue.poll_seconds, typical, min(typical if soon is None else soon, said * MOST_SAID))


@dataclass(frozen=True, slots=True)
class Policies:
    """Times in seconds.

    Args:
        submit: tries of a submit that surely was not taken.
        store: tries of the download and upload of a video that is already paid for.
        retry_base: the first wait after a failure; it doubles up to retry_max.
        poll_interval: polls are at most so far apart at first, up to poll_interval_max for long runs.
        generation_timeout: from acceptance until we give up on the provider.
        queue_timeout: from the request until a provider has taken it.
        submit_timeout: one paid call as a whole.
        late_answer: beyond submit_timeout, how long a process that was cut off may still take to write its answer.
        on_unknown: hold, fail or resubmit, once nothing more can be found out.
        keep_videos: how long a video is kept after its completion; 0 is for ever.
        keep_late: whether work that goes on after its generation's end is looked after, for one generation_timeout.
    """

    submit_attempts: int
    store_attempts: int
    retry_base: float
    retry_max: float
    poll_interval: float
    poll_interval_max: float
    generation_timeout: float
    queue_timeout: float
    submit_timeout: float
    late_answer: float
    on_unknown: str
    max_submissions: int
    lane_pause: float
    keep_videos: float = 0.0
    keep_late: bool = False

    @property
    def own_answer(self) -> float:
        """How long the process that made a paid call may still write its answer, when nobody saw that call end."""
        return self.submit_timeout + self.late_answer

    def retry(self, step: Step) -> RetryPolicy:
        """How failures of a step are tried again. Polls are bounded by the deadline, not by a count."""
        bounded = {Step.SUBMIT: self.submit_attempts, Step.STORE: self.store_attempts, Step.LATE: self.store_attempts}
        attempts = bounded.get(step, NO_BOUND)
        cap = min(self.retry_max, 30.0) if step is Step.POLL else self.retry_max
        return RetryPolicy(attempts, self.retry_base, cap)

    def expires_at(self, now_ms: int) -> int | None:
        """When a video that is completed now will expire, in milliseconds."""
        return now_ms + int(self.keep_videos * 1000) if self.keep_videos else None

    def first_poll(self, pace: Pace) -> float:
        """Most of the time that the quickest take passes before the first look."""
        return max(pace.poll_seconds, min(pace.soon_seconds * FIRST_LOOK, self.generation_timeout / 2))

    def next_poll(self, pace: Pace, *, elapsed: float, asked: float | None, jitter: float) -> float:
        """The longer it runs, the rarer the looks; never below the provider's minimum or, until the deadline, what it
        asked for.
        """
        usual = min(self.poll_interval, pace.typical_seconds / 4)
        wait = min(self.poll_interval_max, max(usual, elapsed * 0.1)) * (0.8 + 0.4 * jitter)
        left = max(self.generation_timeout - elapsed, pace.poll_seconds)
        return max(wait, pace.poll_seconds, min(asked or 0.0, left))
