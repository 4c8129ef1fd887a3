"""What the stages work with: handed in by the composition root, never reached for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.admission import Bounds, Closed
from pipeline.clock import Clock
from pipeline.db import Database, Row
from pipeline.durations import Durations, key_of
from pipeline.lifecycle import Fault
from pipeline.outbox import Outbox
from pipeline.spending import Purse
from pipeline.spool import Spool
from pipeline.storage import Storage
from pipeline.turn import Turn
from pipeline.workflow.policy import Pace, Policies, pace_of
from providers.base import ErrorCode, Provider, ProviderError

T = TypeVar("T")

MAX_NOT_FOUND = 5
"""So many times in a row must the provider not know its own work before we believe it: a front of many machines may be
late, and anything else in between speaks against it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the machine.

    Args:
        callback_url: (provider, token) -> where that provider may ring for this submission, or None for polling only.
        uniform: a random number in 0..1, for jitter.
        random: n random bytes, for ids and tokens.
    """

    db: Database
    providers: Mapping[str, Provider]
    durations: Durations
    storage: Storage
    spool: Spool
    outbox: Outbox
    policies: Policies
    bounds: Bounds
    clock: Clock
    uniform: Callable[[], float]
    random: Callable[[int], bytes]
    callback_url: Callable[[str, str], str | None]
    max_video_bytes: int
    max_image_bytes: int
    purse: Purse = field(default_factory=Purse)


@dataclass(slots=True)
class Subject:
    """What a generation's turn works on.

    Args:
        open_submission: the one that may still cost or yield something, if any.
        submissions: how many its run has made.
        closed: why its lane takes no new submissions, if it does not.
        history: its submissions, oldest first, in turns that may have to do with more than the open one.
        strays: those of them that may have been taken although nobody counts on it.
        dead: whether its job was a dead letter before it looked for what came late.
        paused_until: when the last pause by hand of what it waits for ends or ended, in milliseconds.
    """

    generation: Row
    open_submission: Row | None
    submissions: int
    closed: Closed | None = None
    history: Sequence[Row] = ()
    strays: Sequence[Row] = ()
    dead: bool = False
    paused_until: int = 0


async def ask(answer: Awaitable[T]) -> T:
    """Await an adapter's free call. Whatever it trips over in a stranger's words becomes a ProviderError."""
    try:
        return await answer
    except (ProviderError, TimeoutError):
        raise
    except Exception as error:
        message = f"the answer cannot be read: {type(error).__name__}"
        raise ProviderError(ErrorCode.UNREADABLE, message) from error


def subject_of(turn: Turn) -> Subject:
    """The turn's subject, by its type."""
    subject = turn.subject
    assert isinstance(subject, Subject)
    return subject


def pace_for(parts: Parts, generation: Row) -> Pace:
    """How often this generation is looked at, by what is known of such ones."""
    learned = parts.durations.learned(key_of(generation))
    catalogue = parts.providers[generation["provider"]].capabilities.catalogue
    known = () if learned is None else (learned.p50, learned.soon)
    return pace_of(catalogue, generation["model"], *known)


def fault_of(
    error: ProviderError, *, code: str | None = None, message: str | None = None, retryable: bool | None = None
) -> Fault:
    """A provider's error in the words that clients see; what is given replaces what the provider said."""
    return Fault(
        code=code or str(error.code),
        message=message or error.message,
        retryable=error.retryable if retryable is None else retryable,
        provider_code=error.provider_code,
    )
