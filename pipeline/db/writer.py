"""The writer: one thread that runs what callers hand in, many units in one transaction, and answers after the commit.

Rules: a unit is a short synchronous function over a Tx; units of a group run in order of their key, so that two processes lock
rows in one order; when a statement raises, the group is rolled back and its units run one by one, so that a bad unit harms
nobody else; cancelling a caller does not cancel its unit; the queue is bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from pipeline.db.errors import CommitUnknown, DatabaseBusy, WriterFull
from pipeline.db.tx import Tx

GROUP = 256
QUEUE = 10_000
BUSY_SECONDS = 20.0
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"

Unit = Callable[[Tx], Any]


@dataclass(slots=True)
class _Work:
    unit: Unit
    key: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = field(default=None)


class Writer:
    """Groups commits. `clock` gives SQLite's time in seconds; PostgreSQL tells its own."""

    def __init__(self, engine: Engine, clock: Callable[[], float], on_commit: Callable[[], None] | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._postgres = engine.dialect.name == "postgresql"
        self._queue: deque[_Work] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="dailies-writer", daemon=True)
        self._thread.start()

    async def write(self, unit: Unit, *, key: int = 0, first: bool = False) -> Any:
        """Run a unit and return its result after the commit. Raises what the unit raised, or a DatabaseError."""
        loop = asyncio.get_running_loop()
        work = _Work(unit, key, loop, loop.create_future())
        with self._ready:
            if self._closing or len(self._queue) >= QUEUE:
                raise WriterFull("too much is waiting to be written; come back in a moment")
            if first:
                work.key = -1
                self._queue.appendleft(work)
            else:
                self._queue.append(work)
            self._ready.notify()
        return await work.future

    def close(self) -> None:
        """Write what is waiting, then end the thread."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            group.sort(key=lambda work: work.key)
            try:
                self._transaction(group)
            except (CommitUnknown, DatabaseBusy) as error:
                _set_errors(group, error)
            except Exception as error:
                if len(group) == 1:
                    _set_errors(group, error)
                else:
                    self._one_by_one(group)
            _answer(group)

    def _take(self) -> list[_Work]:
        with self._ready:
            while not self._queue and not self._closing:
                self._ready.wait()
            return [self._queue.popleft() for _ in range(min(GROUP, len(self._queue)))]

    def _one_by_one(self, group: list[_Work]) -> None:
        for work in group:
            try:
                self._transaction([work])
            except Exception as error:
                work.error = error

    def _transaction(self, group: list[_Work]) -> None:
        with self._engine.connect() as connection:
            tx = self._begin(connection)
            try:
                for work in group:
                    work.result = work.unit(tx)
            except BaseException:
                connection.rollback()
                raise
            self._commit(connection)

    def _begin(self, connection: Connection) -> Tx:
        if self._postgres:
            connection.exec_driver_sql(LOCK_TIMEOUT)
            return Tx(connection, database_now(connection), postgres=True)
        deadline = monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if "locked" not in str(error.orig) or monotonic() > deadline:
                    raise DatabaseBusy(f"the database is locked by another process: {error.orig}") from error
                sleep(0.002)
            else:
                return Tx(connection, int(self._clock() * 1000), postgres=False)

    def _commit(self, connection: Connection) -> None:
        try:
            if self._postgres:
                connection.commit()
            else:
                connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            with suppress(DBAPIError):
                connection.rollback()
            raise CommitUnknown(f"the answer to COMMIT was lost: {error.orig}") from error
        self.commits += 1


def database_now(connection: Connection) -> int:
    """PostgreSQL's clock in milliseconds; not the frozen now()."""
    seconds = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one()
    return int(float(seconds) * 1000)


def _set_errors(group: list[_Work], error: BaseException) -> None:
    for work in group:
        work.error = error


def _answer(group: list[_Work]) -> None:
    """Tell each event loop once; a caller that has gone, or its whole loop, is no concern of the others."""
    loops = {id(work.loop): work.loop for work in group}
    for loop in loops.values():
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, [work for work in group if work.loop is loop])


def _settle(group: list[_Work]) -> None:
    for work in group:
        if work.future.done():
            continue
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.result)
