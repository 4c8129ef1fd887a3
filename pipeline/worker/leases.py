"""Leases: all of a process are renewed in one statement, where no upload or parse can delay it.

A process that cannot renew stops its turns by its own monotonic clock, except those that may have sent a paid call.
"""

from __future__ import annotations

import asyncio
import logging

from pipeline import queue
from pipeline.clock import Clock
from pipeline.db import Database
from pipeline.telemetry import emit
from pipeline.worker.runner import Runner

RENEWALS_PER_LEASE = 3


class Leases:
    """Keeps the leases of a runner's turns; `owner` is the process's identity, `lease` their length in seconds."""

    def __init__(self, db: Database, clock: Clock, runner: Runner, owner: str, lease: float) -> None:
        self._db = db
        self._clock = clock
        self._runner = runner
        self._owner = owner
        self._lease = lease

    async def keep(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self._lease / RENEWALS_PER_LEASE)
            self._drop_expired()
            if self._runner.running:
                try:
                    await self._renew()
                except Exception as error:
                    emit("worker.failed", level=logging.WARNING, error=f"renewal: {error!r}")

    async def _renew(self) -> None:
        """What is not held any more is stopped; but a turn whose record was written just before this is not lost, its
        task has only not been told yet."""
        asked = self._clock.monotonic()
        known = dict(self._runner.running)
        async with asyncio.timeout(self._lease):
            held = await self._db.write(
                lambda tx: queue.extend(tx, self._owner, known, self._lease), first=True, aside=True
            )
        for job_id, turn in known.items():
            if job_id in held:
                turn.lease.until = asked + self._lease
            elif self._runner.running.get(job_id) is turn and not turn.recording:
                self._runner.interrupt(turn)

    def _drop_expired(self) -> None:
        for turn in list(self._runner.running.values()):
            if turn.lease.ended():
                emit("worker.lease_lost", level=logging.WARNING, job=turn.claim.id, step=turn.claim.step)
                self._runner.interrupt(turn)
