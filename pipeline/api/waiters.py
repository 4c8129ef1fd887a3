"""All who wait for the end of a generation: one question to the database for all of them at once.

It is asked only when something was committed; on PostgreSQL, which tells nobody, every half second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline import generations
from pipeline.db import Database, Row, Tx
from pipeline.telemetry import emit

TICK = 0.1
BLIND = 0.5


@dataclass(slots=True)
class Waiters:
    """All who wait for an end in this process."""

    db: Database
    monotonic: Callable[[], float] = time.monotonic
    _waiting: dict[str, set[asyncio.Future[Row]]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _probe: Callable[[], bool] | None = None
    _commits: int = -1
    _looked_at: float = 0.0

    @property
    def count(self) -> int:
        """How many wait."""
        return sum(len(each) for each in self._waiting.values())

    @contextmanager
    def wait(self, generation_id: str) -> Iterator[asyncio.Future[Row]]:
        """A future of the generation as it ended, looked for as long as the block lasts."""
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(generation_id, set()).add(future)
        self._commits = -1  # it may have ended just now
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield future
        finally:
            self._leave(generation_id, future)

    def _leave(self, generation_id: str, future: asyncio.Future[Row]) -> None:
        future.cancel()
        mine = self._waiting[generation_id]
        mine.discard(future)
        if not mine:
            del self._waiting[generation_id]
        if not self._waiting and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            if self._something_new():
                try:
                    self._tell(await self.db.read(self._ended))
                except Exception as error:
                    emit("watch.failed", level=logging.WARNING, error=repr(error))
                    self._commits = -1
                    await asyncio.sleep(BLIND)
            await asyncio.sleep(TICK)

    def _something_new(self) -> bool:
        commits, now = self.db.commits, self.monotonic()
        if self._probe is None:
            self._probe = self.db.change_probe() or (lambda: self.monotonic() - self._looked_at >= BLIND)
        new = self._probe() or commits != self._commits
        self._commits = commits
        if new:
            self._looked_at = now
        return new

    def _ended(self, tx: Tx) -> list[Row]:
        return generations.ended(tx, list(self._waiting))

    def _tell(self, rows: list[Row]) -> None:
        for row in rows:
            for future in self._waiting.get(row["id"], ()):
                if not future.done():
                    future.set_result(row)
