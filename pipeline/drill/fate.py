"""The hand of fate: it hits one process after the other, and measures how soon others take its work over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.db import Database, Tx
from pipeline.drill.crew import Member
from pipeline.drill.plan import Blow

LOOK_SECONDS = 0.05
READY_SECONDS = 8.0
TAKEN_SECONDS = 60.0


@dataclass(slots=True)
class Blows:
    """What was done, and what came of it. `takeovers` are the seconds from a kill until nothing of what the killed
    process held was still in its name; `untaken` counts those of which that was not seen within a minute."""

    kills: int = 0
    stops: int = 0
    takeovers: list[float] = field(default_factory=list)
    untaken: int = 0


class Fate:
    """Hits the members of a crew; `tell` is told of every blow, in words."""

    def __init__(self, crew: Sequence[Member], db: Database, tell: Callable[[str], None]) -> None:
        self._crew = crew
        self._db = db
        self._tell = tell
        self.done = Blows()

    async def strike(self, blows: Iterable[Blow], over: Callable[[], bool]) -> None:
        """Every blow in its time, until it is `over`; then every stopped process goes on and every takeover was
        seen."""
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(blow.wait)
                member = self._crew[blow.victim]
                await _ready(member)
                if over():
                    return
                if blow.stop is None:
                    await self._kill(member, group)
                else:
                    group.create_task(self._stop(member, blow.stop))

    async def _stop(self, member: Member, seconds: float) -> None:
        self._tell(f"{member.name} is stopped for {seconds:.1f} s")
        self.done.stops += await member.stop(seconds)

    async def _kill(self, member: Member, group: asyncio.TaskGroup) -> None:
        pid = member.pid
        self._tell(f"{member.name} is killed")
        member.kill()
        self.done.kills += 1
        if pid is not None:
            group.create_task(self._watch(pid, time.monotonic()))

    async def _watch(self, pid: int, since: float) -> None:
        """How long anything is still leased to a process that is dead."""
        held = await self._db.read(lambda tx: _held(tx, pid))
        if not held:
            return
        while time.monotonic() - since < TAKEN_SECONDS:
            held = await self._db.read(lambda tx, before=held: _still(tx, before))  # type: ignore[misc]
            if not held:
                self.done.takeovers.append(time.monotonic() - since)
                return
            await asyncio.sleep(LOOK_SECONDS)
        self.done.untaken += 1


async def _ready(member: Member) -> None:
    """A blow is meant for a process at work: one that is only starting is waited for, not for ever."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if member.up or time.monotonic() > deadline:
            return
        await asyncio.sleep(LOOK_SECONDS)


Holding = tuple[str, ...]


def _held(tx: Tx, pid: int) -> Holding:
    """The jobs that a process holds, each with its fence, which the next claim raises."""
    rows = tx.all(
        "SELECT id, fence FROM job WHERE status = 'processing'"
        " AND locked_by IN (SELECT id FROM worker WHERE pid = :pid)",
        {"pid": pid},
    )
    return tuple(f"{row['id']}:{row['fence']}" for row in rows)


def _still(tx: Tx, held: Holding) -> Holding:
    rows = tx.all("SELECT id, fence FROM job WHERE status = 'processing'")
    return tuple(set(held) & {f"{row['id']}:{row['fence']}" for row in rows})
