"""Saboteurs: each takes one protection away. None is ever shipped; each must be caught, by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from pipeline import ledger
from pipeline.admission import starting
from pipeline.db import Database
from pipeline.lifecycle import Busy, SubmissionOutcome
from pipeline.outbox.recording import Recorder
from pipeline.queue import decisions
from pipeline.turn import Lease, Report
from pipeline.workflow import submit
from pipeline.workflow.resolve import NOT_TAKEN, NOT_THERE
from providers import base
from webhooks.events import TERMINAL

HELD = " WHERE id = :id AND fence = :fence AND locked_by = :worker AND locked_until > :now AND status = 'processing'"


def _held(text: str) -> None:
    assert decisions._HELD == HELD, "the fence is written otherwise by now: mend this saboteur"
    decisions._HELD = text


def fence_off() -> None:
    """A record looks at nothing but the job's id."""
    _held(" WHERE id = :id")


def lease_off_at_record() -> None:
    """A record looks at the fence, and not at the lease's end."""
    _held(" WHERE id = :id AND fence = :fence AND locked_by = :worker AND status = 'processing'")


def lease_off_before_paying() -> None:
    """A process pays without looking at its clock."""
    Lease.valid = lambda self: True  # type: ignore[method-assign]


def blind_requeue() -> None:
    """What was intended by a process that died is taken for not sent, and goes back into the line."""
    found = submit._found

    def requeue(parts: Any, generation: Any, submission: Any) -> Report:
        if submission["outcome"] != SubmissionOutcome.INTENDED:
            return found(parts, generation, submission)
        token = submission["token"]
        return Report(Busy(NOT_TAKEN), facts=[lambda tx: ledger.reject(tx, token, NOT_THERE)])

    submit._found = requeue


def retry_on_timeout() -> None:
    """An HTTP client that repeats by itself what was not answered."""
    pay = submit.pay_once

    async def pay_again(*arguments: Any) -> Any:
        result = await pay(*arguments)
        return await pay(*arguments) if isinstance(result, base.Unknown) else result

    submit.pay_once = pay_again


def deferred_begin() -> None:
    """SQLite's transactions begin as readers and become writers later."""

    def defer(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace("BEGIN IMMEDIATE", "BEGIN"), parameters

    event.listen(Engine, "before_cursor_execute", defer, retval=True)


def counter_without_lock() -> None:
    """Free places are counted while others are counting, too. The moment between count and use is made longer, so
    that it takes seconds and not days."""
    hold, room = starting.hold_lane, starting.room

    def look(tx: Any, name: str) -> Any:
        row = tx.one("SELECT * FROM lane WHERE name = :name", {"name": name})
        return row or hold(tx, name)

    def counted(*arguments: Any) -> int:
        free = room(*arguments)
        time.sleep(0.05)
        return free

    starting.hold_lane, starting.room = look, counted


def outbox_outside() -> None:
    """The event of an end is written after the commit that ends, in one of its own; a process dies between the two."""
    record, write = Recorder.record, Database.write
    late: list[tuple[Any, ...]] = []

    def later(self: Recorder, tx: Any, generation: Any, kind: str) -> str | None:
        if kind not in TERMINAL:
            return record(self, tx, generation, kind)
        late.append((self, generation, kind))
        return None

    async def written(self: Database, unit: Any, **options: Any) -> Any:
        result = await write(self, unit, **options)
        while late:
            recorder, generation, kind = late.pop()
            if not Path("between.done").exists():
                Path("between.done").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            await write(self, lambda tx, r=recorder, g=generation, k=kind: record(r, tx, g, k))
        return result

    Recorder.record, Database.write = later, written  # type: ignore[method-assign]


SABOTEURS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        fence_off,
        lease_off_at_record,
        lease_off_before_paying,
        blind_requeue,
        retry_on_timeout,
        deferred_begin,
        counter_without_lock,
        outbox_outside,
    )
}
