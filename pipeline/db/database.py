"""Database: the one door through which the event loop reads and writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.db.engine import make_engine
from pipeline.db.tx import Tx
from pipeline.db.writer import Writer, database_now

T = TypeVar("T")

READERS = 3


class Database:
    """One database as one process uses it.

    Args:
        url: `sqlite:///file` or `postgresql://...`.
        clock: seconds since 1970 on SQLite, whose clock is the host's; PostgreSQL tells its own time.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.engine = make_engine(url)
        self.postgres = self.engine.dialect.name == "postgresql"
        self._clock = clock
        self._writer = Writer(self.engine, clock)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dailies-reader")

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._writer.commits

    async def write(self, unit: Callable[[Tx], T], *, key: int = 0, first: bool = False) -> T:
        """Run `unit` in the next group and return its result after the commit.

        `key` orders units of one group (a job's id); `first` goes before all others (lease renewal).
        Raises what the unit raised, CommitUnknown, DatabaseBusy or WriterFull.
        """
        result: T = await self._writer.write(unit, key=key, first=first)
        return result

    async def read(self, query: Callable[[Tx], T]) -> T:
        """Run a query on a snapshot of its own, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)

    def read_now(self, query: Callable[[Tx], T]) -> T:
        """The same, in the calling thread."""
        with self.engine.connect() as connection:
            if self.postgres:
                return query(Tx(connection, database_now(connection), postgres=True))
            connection.exec_driver_sql("BEGIN")
            try:
                return query(Tx(connection, int(self._clock() * 1000), postgres=False))
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def change_probe(self) -> Callable[[], bool] | None:
        """A cheap question, for one thread: has anybody written since it was last asked? None where that is not offered."""
        if self.postgres:
            return None
        connection = self.engine.connect()
        seen = [connection.exec_driver_sql("PRAGMA data_version").scalar()]

        def changed() -> bool:
            now = connection.exec_driver_sql("PRAGMA data_version").scalar()
            before, seen[0] = seen[0], now
            return now != before

        return changed

    def close(self) -> None:
        """Finish what was handed in, then let go of every connection."""
        self._writer.close()
        self._readers.shutdown(wait=True)
        self.engine.dispose()
