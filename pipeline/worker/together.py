"""Records that go together: while one batch of them is written, the next gathers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from pipeline.db import Database, DatabaseError
from pipeline.lifecycle import Decision
from pipeline.telemetry import emit
from pipeline.turn import Ended, Report, Together, Turn

LAST = 1 << 62
"""The key of a unit that runs after all others of its group: it waits for no row, and others wait for none of its."""


class Gathered:
    """The plain records of one handler. What cannot be written together comes back as None, for a record of its own."""

    def __init__(self, db: Database, handler: Together, most: int) -> None:
        self._db = db
        self._handler = handler
        self._most = most
        self._waiting: list[tuple[Ended, asyncio.Future[Decision | None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def takes(self, turn: Turn, report: Report) -> bool:
        """Whether this record may go with others."""
        return self._handler.is_plain(turn, report)

    async def record(self, ended: Ended) -> Decision | None:
        """Write it with the next batch; the decision once that is committed."""
        future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((ended, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            found = await self._record([ended for ended, _ in batch])
            for (turn, _), future in batch:
                if not future.done():
                    future.set_result(found.get(turn.claim.id))

    async def _record(self, ended: Sequence[Ended]) -> Mapping[int, Decision]:
        """Whatever goes wrong here goes right, or wrong by itself, in the record of each turn."""
        try:
            return await self._db.write(lambda tx: self._handler.record_plain(tx, ended), key=LAST)
        except DatabaseError:
            return {}
        except Exception as error:
            emit("worker.failed", level=logging.ERROR, error=f"recording {len(ended)} turns together: {error!r}")
            return {}
