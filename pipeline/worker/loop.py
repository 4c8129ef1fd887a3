"""Worker: claim -> run -> decide -> record, over and over. It knows nothing of what is in a turn.

A process holds a bounded number of turns per step; between turns nothing is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline import admission, queue
from pipeline.clock import Clock
from pipeline.db import Database, DatabaseError, Tx
from pipeline.lifecycle import JobKind, Step
from pipeline.telemetry import emit
from pipeline.turn import Handler, Lease, Turn
from pipeline.wake import Doorbell
from pipeline.worker.drain import drain
from pipeline.worker.leases import Leases
from pipeline.worker.limits import Identity, Limits
from pipeline.worker.presence import Presence
from pipeline.worker.runner import Runner

IDLE_SECONDS = 5.0
"""The slowest look at the database, should every wake-up fail."""
ERROR_SECONDS = 1.0
HOUSE_SECONDS = 30.0

T = TypeVar("T")


@dataclass(slots=True)
class _Round:
    """What one look at the queue found."""

    turns: list[Turn] = field(default_factory=list)
    due: int | None = None
    now: int = 0


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
        self._handlers = handlers
        self._limits = limits
        self._clock = clock
        self.identity = identity
        self._runner = Runner(db, doorbell, handlers, limits)
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
            await drain(self._db, self._runner, self._presence, self._limits.drain_timeout)
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _loop(self) -> None:
        while not self._runner.stopping:
            await self._doorbell.wait(await self._guarded_round())

    async def _empty(self) -> int:
        done = 0
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
        if found.turns:
            return 0.0 if self._runner.free() else IDLE_SECONDS
        if found.due is None:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.001, (found.due - found.now) / 1000))

    async def _look(self) -> _Round:
        """Admit, claim and start what there is a place for."""
        free = self._runner.free()
        if not free:
            return _Round()
        busy = Counter((turn.claim.step, turn.claim.lane) for turn in self._runner.running.values())
        asked = self._clock.monotonic()
        found = await self._db.write(lambda tx: self._claim(tx, free, busy, asked), aside=True)
        self._clock.sync(found.now)
        for turn in found.turns:
            self._runner.start(turn)
        return found

    def _claim(self, tx: Tx, free: Mapping[Step, int], busy: Mapping[tuple[Step, str], int], asked: float) -> _Round:
        found = _Round(now=tx.now)
        if Step.SUBMIT in free:
            admission.admit(tx, limit=free[Step.SUBMIT], bounds=self._limits.bounds, purse=self._limits.purse)
        claims = []
        rooms = None
        for step, places in free.items():
            lanes = {lane: count for (of, lane), count in busy.items() if of is step}
            per_lane = self._limits.per_lane.get(step, 0)
            if step is Step.DELIVER:
                rooms = admission.rooms(tx, most=per_lane or places)
            claims += queue.claim(
                tx,
                worker=self.identity.id,
                step=step,
                limit=places,
                lease=self._limits.lease,
                busy=lanes,
                per_lane=per_lane,
                rooms=rooms.free if rooms is not None and step is Step.DELIVER else None,
                proven=frozenset() if rooms is None else rooms.proven,
            )
        for kind, handler in self._handlers.items():
            mine = [claim for claim in claims if claim.kind is kind]
            subjects = handler.load(tx, mine) if mine else {}
            for claim in mine:
                if claim.id in subjects:
                    lease = Lease(asked + self._limits.lease, self._limits.lease / 10, self._clock.monotonic)
                    found.turns.append(Turn(claim, subjects[claim.id], lease))
                else:
                    queue.drop(tx, claim)
        if not claims:
            opening = admission.next_opening(tx, self._limits.bounds, self._limits.purse)
            times = (queue.next_due(tx, list(free)), opening, rooms.again if rooms is not None else None)
            found.due = min((time for time in times if time is not None), default=None)
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
