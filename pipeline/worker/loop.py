"""Worker: claim -> run -> decide -> record, over and over. It knows nothing of what is in a turn.

A process holds a bounded number of turns per step; between turns nothing is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Set
from contextlib import suppress
from typing import TypeVar

from pipeline.clock import Clock
from pipeline.db import Database, DatabaseError
from pipeline.lifecycle import Decision, JobKind, Snooze, Step
from pipeline.telemetry import emit
from pipeline.turn import Handler, Turn
from pipeline.wake import Doorbell
from pipeline.worker.drain import drain
from pipeline.worker.leases import Leases
from pipeline.worker.limits import Identity, Limits
from pipeline.worker.look import Found, Look
from pipeline.worker.pace import Pace
from pipeline.worker.presence import Presence
from pipeline.worker.runner import Runner

IDLE_SECONDS = 5.0
"""The slowest look at the database, should every wake-up fail."""
ERROR_SECONDS = 1.0
HOUSE_SECONDS = 30.0

T = TypeVar("T")


class Worker:
    """Runs the jobs of the given handlers until it is stopped.

    Args:
        maintain: called twice a minute while it runs; decides itself whether something is due.
    """

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        handlers: Mapping[JobKind, Handler],
        limits: Limits,
        identity: Identity,
        clock: Clock,
        maintain: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._limits = limits
        self._clock = clock
        self.identity = identity
        self._runner = Runner(db, self._ended, handlers, limits)
        self._look_for = Look(identity.id, handlers, limits, clock.monotonic)
        self._pace = Pace(limits.fill, clock.monotonic)
        self._stopped = asyncio.Event()
        self._next_look = 0.0
        self._emptying = False
        self._crowded: Set[Step] = frozenset(limits.slots)
        self._leases = Leases(db, clock, self._runner, identity.id, limits.lease)
        self._presence = Presence(db, identity)
        self._maintain = maintain

    async def run(self) -> None:
        """Work until `stop` is called, then drain."""
        await self._with_helpers(self._loop(), self._leases.keep(), self._presence.keep(), self._keep_house())

    async def drain_queue(self) -> int:
        """Take what is due, and what comes due by it, until nothing is left to do now; how many turns that took."""
        done = await self._with_helpers(self._empty(), self._leases.keep(), self._presence.keep())
        if self._maintain is not None:
            await self._maintain()
        return done

    async def _with_helpers(self, work: Coroutine[None, None, T], *helping: Coroutine[None, None, None]) -> T:
        """Work with helpers beside it; hand back what is left before they end."""
        helpers = [asyncio.create_task(helper) for helper in helping]
        try:
            return await work
        finally:
            await drain(self._db, self._doorbell, self._runner, self._presence, self._limits.drain_timeout)
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _loop(self) -> None:
        while not self._runner.stopping:
            wait = await self._guarded_round()
            self._next_look = self._clock.monotonic() + wait
            await self._doorbell.wait(wait)
            await self._rest()

    async def _rest(self) -> None:
        """Let a batch gather. What rang meanwhile is seen by the look that follows."""
        rest = self._pace.rest()
        if rest > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._stopped.wait()
            await self._doorbell.wait(0.0)

    def _ended(self, turn: Turn, decision: Decision | None) -> None:
        """A place is free, and there may be news: look again. Not so after a quiet turn, unless its place is wanted:
        when its job comes due again is known. A worker that stops takes no more of it: others have to be told."""
        if self._runner.stopping:
            self._doorbell.ring()
        elif not turn.quiet or self._emptying or turn.claim.step in self._crowded or not isinstance(decision, Snooze):
            self._doorbell.nudge()
        elif self._clock.monotonic() + decision.delay < self._next_look:
            asyncio.get_running_loop().call_later(decision.delay, self._doorbell.nudge)

    async def _empty(self) -> int:
        done, self._emptying = 0, True
        while not self._runner.stopping:
            found = await self._look()
            done += len(found.turns)
            soon = found.due is not None and found.due <= found.now
            if not found.turns and not self._runner.running and not soon:
                break
            await self._doorbell.wait(0.05 if soon and not self._runner.running else IDLE_SECONDS)
        return done

    def stop(self) -> None:
        """Take nothing more; `run` returns once its turns have ended or were handed back."""
        self._runner.stopping = True
        self._stopped.set()
        self._doorbell.nudge()

    async def _guarded_round(self) -> float:
        """One look at the queue; returns how long to wait for the next."""
        try:
            found = await self._look()
        except DatabaseError as error:
            emit("worker.failed", level=logging.WARNING, error=str(error))
            return ERROR_SECONDS
        except Exception as error:
            emit("worker.failed", level=logging.ERROR, error=repr(error))
            return ERROR_SECONDS
        if found.full:
            return 0.0
        if found.due is None:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.001, (found.due - found.now) / 1000))

    async def _look(self) -> Found:
        """Admit, claim and start what there is a place for."""
        free = self._runner.free()
        if not free:
            return Found()
        busy = Counter((turn.claim.step, turn.claim.lane) for turn in self._runner.running.values())
        asked = self._clock.monotonic()
        found = await self._db.write(lambda tx: self._look_for.take(tx, free, busy, asked), aside=True)
        self._clock.sync(found.now)
        for turn in found.turns:
            self._runner.start(turn)
        self._crowded = self._limits.slots.keys() - self._runner.free().keys()
        self._pace.looked(asked, full=found.full)
        return found

    async def _keep_house(self) -> None:
        while self._maintain is not None:
            try:
                await self._maintain()
            except Exception as error:
                emit("worker.failed", level=logging.ERROR, error=f"maintenance: {error!r}")
            await asyncio.sleep(HOUSE_SECONDS)


async def run_until(worker: Worker, stop: asyncio.Event) -> None:
    """Run a worker until the event is set, then let it drain."""
    task = asyncio.create_task(worker.run())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    worker.stop()
    await task
