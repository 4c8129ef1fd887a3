"""Database: the one door through which the event loop reads and writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from pipeline.db.engine import begin_postgres, make_engine
from pipeline.db.errors import translate
from pipeline.db.tx import Tx
from pipeline.db.writer import Writer

T = TypeVar("T")

READERS = 3


class Database:
    """One database as one process uses it.

    Args:
        url: `sqlite:///file` or `postgresql://...`.
        clock: seconds since 1970 on SQLite, whose clock is the host's; PostgreSQL tells its own time.
        ahead: seconds added to the time of either, so that a test need not wait.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.time, ahead: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.engine = make_engine(url)
        self.postgres = self.engine.dialect.name == "postgresql"
        self._clock = clock
        self._ahead = ahead
        self._probes: list[Connection] = []
        self._writer = Writer(self.engine, self._now_ms, self._ahead_ms)
        self._aside = Writer(self.engine, self._now_ms, self._ahead_ms) if self.postgres else self._writer
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dailies-reader")

    def _now_ms(self) -> int:
        return int(self._clock() * 1000) + self._ahead_ms()

    def _ahead_ms(self) -> int:
        return int(self._ahead() * 1000)

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._writer.commits + (self._aside.commits if self._aside is not self._writer else 0)

    async def write(self, unit: Callable[[Tx], T], *, key: int = 0, first: bool = False, aside: bool = False) -> T:
        """Run `unit` in the next group and return its result after the commit.

        `key` orders units of one group (a job's id); `first` goes before all others (lease renewal). What goes `aside`
        has a connection of its own where there can be two writers (PostgreSQL): a claim that waits for a lane holds up
        no record, and no backlog of records holds up the leases.
        Raises what the unit raised, CommitUnknown, or one of NothingWritten. The unit may be run more than once.
        """
        writer = self._aside if aside else self._writer
        result: T = await writer.write(unit, key=key, first=first)
        return result

    async def read(self, query: Callable[[Tx], T]) -> T:
        """Run a query on a snapshot of its own, off the event loop. Raises what the query raised, or a
        DatabaseError."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)

    def read_now(self, query: Callable[[Tx], T]) -> T:
        """The same, in the calling thread."""
        try:
            with self.engine.connect() as connection:
                return query(self._begin_read(connection))
        except DBAPIError as error:
            if (ours := translate(error)) is not error:
                raise ours from error
            raise

    def _begin_read(self, connection: Connection) -> Tx:
        """Closing the connection rolls back, so nothing that a reader did is kept."""
        if self.postgres:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return Tx(connection, begin_postgres(connection) + self._ahead_ms(), postgres=True)
        connection.exec_driver_sql("BEGIN")
        return Tx(connection, self._now_ms(), postgres=False)

    def change_probe(self) -> Callable[[], bool] | None:
        """A cheap question, for one thread: has anybody written since it was last asked? None where that is not
        offered."""
        if self.postgres:
            return None
        connection = self.engine.connect()
        self._probes.append(connection)
        seen = [connection.exec_driver_sql("PRAGMA data_version").scalar()]

        def changed() -> bool:
            now = connection.exec_driver_sql("PRAGMA data_version").scalar()
            before, seen[0] = seen[0], now
            return now != before

        return changed

    def close(self) -> None:
        """Finish what was handed in, then let go of every connection."""
        self._writer.close()
        if self._aside is not self._writer:
            self._aside.close()
        self._readers.shutdown(wait=True)
        for connection in self._probes:
            connection.close()
        self.engine.dispose()
