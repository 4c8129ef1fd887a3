"""Every status, every legal move, what a run of code can end in, and what follows from it. Pure: standard library only.

A turn ends in an Outcome (what happened); `decide` turns it into a Decision (what the queue does). Decisions carry
delays in seconds, never dates: the queue adds them to the database's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class GenerationStatus(StrEnum):
    """What the client sees; a closed set."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """What a queued or processing generation is at; an open set for clients."""

    WAITING = "waiting"
    SUBMITTING = "submitting"
    GENERATING = "generating"
    HELD = "held"
    STORING = "storing"


class JobStatus(StrEnum):
    """A row of the queue."""

    WAITING = "waiting"
    PENDING = "pending"
    PROCESSING = "processing"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """Whose job it is."""

    GENERATION = "generation"
    DELIVERY = "delivery"
    RECOVERY = "recovery"


class Step(StrEnum):
    """What the next turn of a job does. `held` is taken by nobody until a person decides; `late` is of a generation
    that has ended, whose provider may still come up with something."""

    SUBMIT = "submit"
    RESOLVE = "resolve"
    HELD = "held"
    POLL = "poll"
    STORE = "store"
    LATE = "late"
    DELIVER = "deliver"
    RECOVER = "recover"


class SubmissionOutcome(StrEnum):
    """One possibly-paid call. The first three are open: at most one of them per generation."""

    INTENDED = "intended"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


STAGE_OF_STEP: dict[Step, Stage] = {
    Step.SUBMIT: Stage.SUBMITTING,
    Step.RESOLVE: Stage.HELD,
    Step.HELD: Stage.HELD,
    Step.POLL: Stage.GENERATING,
    Step.STORE: Stage.STORING,
}

_G = GenerationStatus
TERMINAL = frozenset({_G.COMPLETED, _G.FAILED, _G.CANCELLED})

MOVES: dict[GenerationStatus, frozenset[GenerationStatus]] = {
    _G.QUEUED: frozenset({_G.PROCESSING, _G.FAILED, _G.CANCELLED}),
    _G.PROCESSING: frozenset({_G.PROCESSING, _G.COMPLETED, _G.FAILED, _G.CANCELLED}),
    _G.FAILED: frozenset({_G.QUEUED, _G.PROCESSING}),
    _G.COMPLETED: frozenset(),
    _G.CANCELLED: frozenset(),
}
"""A failed generation moves again only by a redrive, which starts a new run."""


class IllegalMove(Exception):
    """A status was about to change in a way that the state machine does not know: a bug of ours."""


def move(current: GenerationStatus, to: GenerationStatus) -> GenerationStatus:
    """Return `to` if the state machine allows it; raises IllegalMove."""
    if to not in MOVES[current]:
        raise IllegalMove(f"{current} -> {to}")
    return to


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something failed. `code` is one of ours, `retryable` tells the client whether asking anew may help."""

    code: str
    message: str
    retryable: bool = False
    provider_code: str | None = None


# --- outcomes: what a turn ended in ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """The step is finished; `step` comes next after so many seconds, or the job is finished when it is None."""

    step: Step | None = None
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class NotYet:
    """Nothing went wrong, come back after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class Busy:
    """Surely nothing was taken and nobody is to blame (rate limit, pause): give up the place and wait; costs no
    attempt. With `stays` nobody else can be asked meanwhile."""

    fault: Fault
    after: float = 0.0
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Surely nothing was taken, or it failed unbilled, and another provider can be asked: go on in its lane. The one
    that was asked stays closed for `after` seconds.

    Args:
        lane: of the provider that is asked next.
        more: whether there is yet another one behind it.
    """

    fault: Fault
    lane: str
    more: bool
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """It went wrong. `exhausted` means that no further try makes sense although the work itself was not refused; with
    `late` the provider is asked on quietly, after so many seconds."""

    fault: Fault
    retryable: bool = False
    retry_after: float | None = None
    exhausted: bool = False
    late: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A possibly-paid call ended without an answer that can be trusted; look into it after so many seconds."""

    fault: Fault
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing more can be found out by itself: a person decides."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Stopped:
    """A cancel was carried out; with `late` the provider works on, and is asked on quietly after so many seconds."""

    late: float | None = None


Outcome = Done | NotYet | Busy | Elsewhere | Failed | Unknown | Parked | Stopped

# --- decisions: what the queue does about it ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Complete:
    """The job is done."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Another step follows; the attempts start anew."""

    step: Step
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Snooze:
    """The same step again, at no cost."""

    delay: float


@dataclass(frozen=True, slots=True)
class Retry:
    """The same step again; one attempt is spent."""

    delay: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Hold:
    """The outcome of a paid call is unknown: find out first. With `delay` None a person must."""

    delay: float | None
    fault: Fault


@dataclass(frozen=True, slots=True)
class Requeue:
    """Back to admission with the old place in line; the lane is closed for `delay` seconds. With `stays` it waits
    there even while the lane is closed."""

    delay: float
    fault: Fault
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Fallback:
    """On to admission in the lane of the next provider, with the old place in line; the lane of this one is closed for
    `delay` seconds."""

    delay: float
    fault: Fault
    lane: str
    more: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """A final answer: the work was refused."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Exhausted, poison or past its deadline: an operator may redrive it. With `late` its job first looks on for what
    may still come, after so many seconds."""

    fault: Fault
    late: float | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client asked for it and it was still possible. With `late` the job looks on, as of a dead one."""

    late: float | None = None


Decision = Complete | Advance | Snooze | Retry | Hold | Requeue | Fallback | Fail | DeadLetter | Cancel


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again. `schedule` gives the waits one by one; without it they double from `base` up to `cap`
    seconds."""

    max_attempts: int
    base: float = 2.0
    cap: float = 300.0
    schedule: Sequence[float] = ()

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after so many failed attempts (1 or more); `jitter` in 0..1 spreads it by a fifth either
        way."""
        if self.schedule:
            wait = self.schedule[min(attempts, len(self.schedule) - 1)]
        else:
            wait = min(self.cap, self.base * 2.0 ** min(attempts - 1, 30))
        return wait * (0.8 + 0.4 * jitter)


POISON_CLAIMS = 8
"""A job that was claimed so often without a record kills its workers, or they never get so far: it is dead."""


def decide(
    outcome: Outcome, *, step: Step, attempts: int, policy: RetryPolicy, cancel_requested: bool, jitter: float
) -> Decision:
    """What follows from an outcome. `attempts` counts the failures of this step so far."""
    if cancel_requested and not isinstance(outcome, Stopped):
        return _decide_cancelled(outcome, step, attempts, policy, jitter)
    match outcome:
        case Done(None):
            return Complete()
        case Done(next_step, after) if next_step is not None:
            return Advance(next_step, after)
        case NotYet(after):
            return Snooze(after)
        case Busy(fault, after, stays):
            return Requeue(after, fault, stays)
        case Elsewhere(fault, lane, more, after):
            return Fallback(after, fault, lane, more)
        case Unknown(fault, after):
            return Hold(after, fault)
        case Parked(fault):
            return Hold(None, fault)
        case Stopped(late):
            return Cancel(late)
        case Failed():
            return _decide_failed(outcome, attempts, policy, jitter)
    raise AssertionError(f"no decision for {outcome} at {step}")


def _decide_failed(outcome: Failed, attempts: int, policy: RetryPolicy, jitter: float) -> Decision:
    fault = outcome.fault
    if outcome.retryable:
        if attempts + 1 >= policy.max_attempts:
            return DeadLetter(fault)
        return Retry(max(policy.delay(attempts + 1, jitter), outcome.retry_after or 0.0), fault)
    return DeadLetter(fault, outcome.late) if outcome.exhausted else Fail(fault)


def _decide_cancelled(outcome: Outcome, step: Step, attempts: int, policy: RetryPolicy, jitter: float) -> Decision:
    """A finished job stays finished; work that the provider holds is stopped there by the next turn; all else ends
    here.

    The next turn comes at once by itself: a cancel during a turn moves `wake_seq`, and `queue.acknowledge` acts on
    that.
    """
    match outcome:
        case Done(None):
            return Complete()
        case Done(next_step) if next_step in {Step.POLL, Step.STORE}:
            return Advance(next_step)
        case NotYet(after) if step is Step.POLL:
            return Snooze(after)
        case Failed(_, retryable=True) if step is Step.POLL and attempts + 1 < policy.max_attempts:
            return decide(outcome, step=step, attempts=attempts, policy=policy, cancel_requested=False, jitter=jitter)
        case Failed(late=late):
            return Cancel(late)
    return Cancel()
