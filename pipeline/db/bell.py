"""Bell: wake-ups between machines, by PostgreSQL's LISTEN and NOTIFY.

A hint and no more: what it does not tell, a poll finds. It rings at most ten times a second, however much there is to
tell, since the server lets only one transaction that rings commit at a time; and it is heard as often at most.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg

from pipeline.db.engine import behind_pooler
from pipeline.db.errors import DatabaseError
from pipeline.telemetry import emit

CHANNEL = "dailies"
PAUSE_SECONDS = 0.1
PING_SECONDS = 20.0
"""So often a connection that says nothing is asked whether it is still there: one that is cut without a word would
else be silent for ever."""
PING_PATIENCE = 5.0
GIVE_UP_SECONDS = 12.0
CONNECT_SECONDS = 15.0
BACKOFF_SECONDS = (0.2, 10.0)

Heard = Callable[[], None]


class Bell:
    """Rings, and hears others ring, over connections that are made anew whenever they break.

    Args:
        name: this process, whose own rings it does not hear.
        notify: sends one notification.
        connect: arguments of `psycopg.connect` for the connection that listens.
        direct: whether somebody said that these lead to PostgreSQL itself.

    Attributes:
        listening: whether rings are heard just now; while it is False, only polls find what others write.
    """

    def __init__(
        self,
        name: str,
        notify: Callable[[str], Awaitable[None]],
        connect: Mapping[str, Any],
        *,
        direct: bool = False,
        ping: float = PING_SECONDS,
        patience: float = PING_PATIENCE,
    ) -> None:
        self.listening = False
        self._name = name
        self._notify = notify
        self._connect = dict(connect)
        self._direct = direct
        self._ping = ping
        self._patience = patience
        self._wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, heard: Heard) -> None:
        """Begin to ring and to listen. `heard` is called when others rang, and whenever rings may have been missed."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._send()), loop.create_task(self._listen(heard))]

    def close(self) -> None:
        """End both; what was not rung yet is found by polls."""
        for task in self._tasks:
            task.cancel()

    def ring(self) -> None:
        """There is work: tell the other processes, now or within a tenth of a second."""
        self._wanted.set()

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with suppress(DatabaseError):
                await self._notify(self._name)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self, heard: Heard) -> None:
        """Listen until cancelled, or until a pooler is found in the way."""
        least, most = BACKOFF_SECONDS
        wait = least
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await psycopg.AsyncConnection.connect(**self._connect, autocommit=True)
            except (psycopg.Error, OSError, TimeoutError) as error:
                connection = None
                if wait == least:
                    self._cry(error)
            if connection is not None:
                try:
                    if not await self._begin(connection):
                        return
                    wait = least
                    await self._hear(connection, heard)
                except (psycopg.Error, OSError, TimeoutError) as error:
                    self._cry(error)
                finally:
                    self.listening = False
                    connection.pgconn.finish()
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnections, nothing more
            wait = min(most, wait * 2)

    @staticmethod
    def _cry(error: Exception) -> None:
        emit("bell.lost", level=logging.WARNING, error=str(error) or type(error).__name__)

    async def _begin(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Listen; False behind a pooler, where every statement may go to another server process."""
        async with asyncio.timeout(self._patience):
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            if row is not None and behind_pooler(connection, row[0]):
                emit("service.notice", level=logging.WARNING, notice=_pooler_notice(self._direct))
                return False
            await connection.execute(f"LISTEN {CHANNEL}".encode())
        self.listening = True
        return True

    async def _hear(self, connection: psycopg.AsyncConnection[Any], heard: Heard) -> None:
        """Hear until the connection breaks. At its start much may have been missed."""
        heard()
        while True:
            said = [note async for note in connection.notifies(timeout=self._ping, stop_after=1)]
            if any(note.payload != self._name for note in said):
                heard()
                await asyncio.sleep(PAUSE_SECONDS)
            elif not said:
                await self._ask(connection)

    async def _ask(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Raises TimeoutError when no answer comes; polls do our work while the driver gives up in its own time."""
        asking = asyncio.ensure_future(connection.execute("SELECT 1"))
        try:
            await asyncio.wait({asking}, timeout=self._patience)
            if asking.done():
                asking.result()
                return
            self.listening = False
            asking.cancel()
            await asyncio.wait({asking}, timeout=GIVE_UP_SECONDS)
        finally:
            asking.cancel()
        raise TimeoutError(f"the connection that listens did not answer for {self._patience:g} s")


def _pooler_notice(direct: bool) -> str:
    which = "DATABASE_LISTEN_URL" if direct else "DATABASE_URL"
    mend = "it has to name PostgreSQL itself" if direct else "set DATABASE_LISTEN_URL to PostgreSQL itself"
    return (
        f"{which} leads to a pooler, through which no wake-up can be heard: workers look once a second for what other"
        f" processes write; {mend} for less than that"
    )
