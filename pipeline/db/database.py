"""Database: the one door through which the event loop reads and writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.db.bell import CHANNEL, Bell
from pipeline.db.engine import READERS, begin_postgres, begin_sqlite, listening_arguments, make_engine
from pipeline.db.errors import DatabaseBusy, translate, unavailable
from pipeline.db.hosttime import HostTime, this_boot
from pipeline.db.tx import Tx
from pipeline.db.writer import Writer

T = TypeVar("T")

SQLITE_READERS = 3


class Database:
    """One database as one process uses it.

    Args:
        url: `sqlite:///file` or `postgresql://...`.
        clock: seconds since 1970 on SQLite, whose clock is the host's; PostgreSQL tells its own time.
        monotonic: seconds that all processes of a host share, by which SQLite's time is told (`hosttime`).
        ahead: seconds added to the time of either, so that a test need not wait.

    Attributes:
        pooled: whether a pooler such as PgBouncer was found between us and PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.pooled = False
        self.engine = make_engine(url, pooled=self._found)
        self.postgres = self.engine.dialect.name == "postgresql"
        self._url = url
        self._time = HostTime(clock, monotonic, this_boot())
        self._ahead = ahead
        self._probes: list[Connection] = []
        self._writer = Writer(self.engine, self._begin_write)
        self._aside = Writer(self.engine, self._begin_write) if self.postgres else self._writer
        readers = READERS if self.postgres else SQLITE_READERS
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="dailies-reader")

    def _found(self, pooled: bool) -> None:
        self.pooled = pooled

    def _begin_write(self, connection: Connection) -> Tx:
        """A transaction that holds what it takes; on SQLite that is the one lock of the file."""
        if self.postgres:
            return Tx(connection, begin_postgres(connection) + self._ahead_ms(), postgres=True)
        begin_sqlite(connection)
        return Tx(connection, self._time.write(connection) + self._ahead_ms(), postgres=False)

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
        except PoolTimeout as error:
            raise DatabaseBusy("all connections of this process are in use") from error

    def _begin_read(self, connection: Connection) -> Tx:
        """Closing the connection rolls back, so nothing that a reader did is kept."""
        if self.postgres:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return Tx(connection, begin_postgres(connection) + self._ahead_ms(), postgres=True)
        connection.exec_driver_sql("BEGIN")
        return Tx(connection, self._time.read(connection) + self._ahead_ms(), postgres=False)

    def bell(self, name: str, listen_url: str | None = None) -> Bell | None:
        """Wake-ups between processes over the database; None where it offers none (SQLite).

        `name` is this process, which does not wake itself; `listen_url` reaches PostgreSQL without a pooler between.
        """
        if not self.postgres:
            return None
        direct = listen_url is not None
        arguments = listening_arguments(listen_url or self._url, "DATABASE_LISTEN_URL" if direct else "DATABASE_URL")
        return Bell(name, self.notify, arguments, direct=direct)

    async def notify(self, payload: str) -> None:
        """Ring every listener. A transaction of its own: the server lets only one that rings commit at a time, and this
        one waits for no disk. Raises a DatabaseError."""
        await asyncio.get_running_loop().run_in_executor(self._readers, self._notify, payload)

    def _notify(self, payload: str) -> None:
        try:
            with self.engine.connect() as connection:
                alone = connection.execution_options(isolation_level="AUTOCOMMIT")
                alone.exec_driver_sql(
                    "SELECT pg_notify(%(channel)s, %(payload)s)", {"channel": CHANNEL, "payload": payload}
                )
        except DBAPIError as error:
            raise unavailable(error) from error
        except PoolTimeout as error:
            raise DatabaseBusy("all connections of this process are in use") from error

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
