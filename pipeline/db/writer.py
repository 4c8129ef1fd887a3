"""The writer: one thread that runs what callers hand in, many units in one transaction, and answers after the commit.

Rules: a unit is a short synchronous function over a Tx, which may be run again; units of a group run in order of their
key, so that two processes lock rows in one order; when a statement raises, the group is rolled back and its units run
one by one, so that a bad unit harms nobody else; cancelling a caller does not cancel its unit; the queue is bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.db.errors import CommitUnknown, DatabaseBusy, DatabaseError, WriterFull, translate, unavailable
from pipeline.db.tx import Tx

GROUP = 256
QUEUE = 10_000
BUSY_SECONDS = 20.0
FIRST = -1
"""The key of what goes before all others, and is committed alone."""

Unit = Callable[[Tx], Any]


@dataclass(slots=True)
class _Work:
    unit: Unit
    key: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = field(default=None)


class _NotBegun(Exception):
    """No transaction could be opened: that concerns the whole group, and trying unit by unit would only take longer."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Writer:
    """Groups commits. `begin` opens a transaction on a connection, and tells the time in it."""

    def __init__(self, engine: Engine, begin: Callable[[Connection], Tx]) -> None:
        self._engine = engine
        self._open = begin
        self._postgres = engine.dialect.name == "postgresql"
        self._queue: deque[_Work] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="dailies-writer", daemon=True)
        self._thread.start()

    async def write(self, unit: Unit, *, key: int = 0, first: bool = False) -> Any:
        """Run a unit and return its result after the commit. Raises what the unit raised, or a DatabaseError.

        What goes `first` is a lease renewal: it is taken even when the queue is full, for without it all work would
        stop, and shares its transaction with nothing that could wait for a lock.
        """
        loop = asyncio.get_running_loop()
        work = _Work(unit, FIRST if first else key, loop, loop.create_future())
        with self._ready:
            if self._closing or (len(self._queue) >= QUEUE and not first):
                raise WriterFull("too much is waiting to be written; come back in a moment")
            if first:
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
            except BaseException as error:
                self._recover(group, error)
            _answer(group)

    def _take(self) -> list[_Work]:
        with self._ready:
            while not self._queue and not self._closing:
                self._ready.wait()
            renewals = sum(1 for _ in takewhile(lambda work: work.key == FIRST, self._queue))
            return [self._queue.popleft() for _ in range(renewals or min(GROUP, len(self._queue)))]

    def _recover(self, group: list[_Work], error: BaseException) -> None:
        """Share an error that concerns all; else find out whose it is."""
        if isinstance(error, _NotBegun):
            _set_errors(group, error.reason)
        elif isinstance(error, CommitUnknown) or len(group) == 1:
            _set_errors(group, error)
        else:
            self._one_by_one(group)

    def _one_by_one(self, group: list[_Work]) -> None:
        for at, work in enumerate(group):
            try:
                self._transaction([work])
            except _NotBegun as error:
                return _set_errors(group[at:], error.reason)
            except BaseException as error:
                work.error = error
        return None

    def _transaction(self, group: list[_Work]) -> None:
        with self._connect() as connection:
            tx = self._begin(connection)
            try:
                for work in group:
                    work.result = work.unit(tx)
                self._refuse_broken(connection)
            except BaseException as error:
                _roll_back(connection)
                if isinstance(error, DBAPIError) and (ours := translate(error)) is not error:
                    raise ours from error
                raise
            self._commit(connection)
            tx.tell()

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except DBAPIError as error:
            raise _NotBegun(unavailable(error)) from error
        except PoolTimeout as error:
            raise _NotBegun(DatabaseBusy("all connections of this process are in use")) from error

    def _begin(self, connection: Connection) -> Tx:
        """What is busy is waited for on SQLite alone: on PostgreSQL nothing can be, before the first statement."""
        deadline = monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._open(connection)
            except DBAPIError as error:
                _roll_back(connection)
                reason = unavailable(error)
                if self._postgres or not isinstance(reason, DatabaseBusy) or monotonic() > deadline:
                    raise _NotBegun(reason) from error
                sleep(0.002)

    def _refuse_broken(self, connection: Connection) -> None:
        """PostgreSQL answers COMMIT of a failed transaction with a rollback and no error: a swallowed error would lose
        all."""
        driver: Any = connection.connection.dbapi_connection
        if self._postgres and driver.info.transaction_status.name == "INERROR":
            raise DatabaseError("a unit went on after its statement had failed: nothing of it can be kept")

    def _commit(self, connection: Connection) -> None:
        try:
            if self._postgres:
                connection.commit()
            else:
                connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            _roll_back(connection)
            raise CommitUnknown(f"the answer to COMMIT was lost: {error.orig}") from error
        self.commits += 1


def _roll_back(connection: Connection) -> None:
    with suppress(DBAPIError):
        connection.rollback()


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
        if isinstance(work.error, StopIteration):
            work.future.set_exception(RuntimeError("a unit raised StopIteration"))
        elif work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.result)
