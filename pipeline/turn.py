"""A turn: one claimed job, what it works on, and what it reports. The worker runs turns without knowing what is in
them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pipeline.db import Tx
from pipeline.lifecycle import Decision, Outcome
from pipeline.queue import Claim


@dataclass(slots=True)
class Lease:
    """How long this process may act on a job, by its own monotonic clock; renewed by the worker.

    `margin` are the seconds before its end from which on nothing is started any more.
    """

    until: float
    margin: float
    monotonic: Callable[[], float]

    def valid(self) -> bool:
        """Whether something may still be started under it."""
        return self.monotonic() < self.until - self.margin

    def ended(self) -> bool:
        """Whether somebody else may hold the job by now."""
        return self.monotonic() >= self.until


@dataclass(slots=True)
class Turn:
    """A claim, the rows it is about, and its lease.

    `paying` is set before an intent to pay is written and stays so until the answer is recorded: nobody may interrupt
    that. `recording` is set once its record is on its way, which its own fence decides about. `quiet` is set by a
    record after which nothing is due that was not before, but the job itself at its time.
    """

    claim: Claim
    subject: Any
    lease: Lease
    paying: bool = False
    recording: bool = False
    quiet: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Report:
    """What a turn ended in.

    Args:
        outcome: what happened.
        patch: columns of the subject to set if the decision is kept.
        facts: what is true whoever holds the job by now; written even when the lease is lost, repeated until it
        commits.
        notes: lines for the timeline, `(event, detail)`.
        fields: what the log line should carry besides, such as milliseconds by phase.
    """

    outcome: Outcome
    patch: Mapping[str, object] = field(default_factory=dict)
    facts: Sequence[Callable[[Tx], object]] = ()
    notes: Sequence[tuple[str, Mapping[str, object]]] = ()
    fields: Mapping[str, object] = field(default_factory=dict)


Ended = tuple[Turn, Report]
"""A turn that was run, and its report."""


@runtime_checkable
class Together(Protocol):
    """What a handler can do besides, whose turns mostly come to the same: write many of them in a few statements."""

    def is_plain(self, turn: Turn, report: Report) -> bool:
        """Whether this report may be written together with others. Pure."""
        ...

    def record_plain(self, tx: Tx, ended: Sequence[Ended]) -> Mapping[int, Decision]:
        """Write them and give the decisions by job id; those that are absent were not written, and go to
        `record_turn`. Runs last in a transaction, and waits for no row."""
        ...


class Handler(Protocol):
    """What a kind of job does in its turns."""

    def load(self, tx: Tx, claims: Sequence[Claim]) -> Mapping[int, Any]:
        """Read what the claims are about, by job id, in the transaction of the claim. A claim without a subject is
        absent."""
        ...

    async def run(self, turn: Turn) -> Report:
        """Do the work. No transaction is open here."""
        ...

    def record_turn(self, tx: Tx, turn: Turn, report: Report) -> Decision | None:
        """Write facts, decide, write the decision under the fence. None if the lease was lost: then only facts were
        kept."""
        ...
