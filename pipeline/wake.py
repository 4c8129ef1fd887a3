"""Wake-ups: how a worker learns that there is work, without asking the database all the time.

Within a process an event; between processes of one host a byte to each worker's Unix datagram socket in
`DATA_DIR/wake/`; between machines PostgreSQL's notifications (`db/bell.py`); as the net below, SQLite's `data_version`
every half second, or a look every second while no notification can be heard. What none of them tells, the next due time
and a slow poll find.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.db.bell import Bell

NET_SECONDS = 0.5
DEAF_SECONDS = 1.0
"""The slowest look while other machines cannot be heard."""
MAX_PATH = 100
"""Bytes of a socket's path that every Unix takes."""


class Doorbell:
    """Rings for workers.

    Args:
        folder: where the sockets of this host are, or None for one process alone.
        name: this process's own socket, if it listens.
        changed: tells whether another process has written since it was last asked; the net.
        distant: rings on other machines, and hears them.
    """

    def __init__(
        self,
        folder: Path | None,
        name: str | None = None,
        changed: Callable[[], bool] | None = None,
        distant: Bell | None = None,
    ) -> None:
        self._distant = distant
        self._folder = folder
        self._name = name
        self._changed = changed
        self._event = asyncio.Event()
        self._sender: socket.socket | None = None
        self._receiver: socket.socket | None = None
        self._net: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to listen. Call it in the event loop that waits."""
        if self._folder is not None and self._name is not None and hasattr(socket, "AF_UNIX"):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._receiver = _bind(self._folder / f"{self._name}.sock")
            if self._receiver is not None:
                asyncio.get_running_loop().add_reader(self._receiver, self._heard)
        if self._changed is not None:
            self._net = asyncio.get_running_loop().create_task(self._watch(self._changed))
        if self._distant is not None:
            self._distant.open(self._event.set)

    def close(self) -> None:
        """Stop listening and take the socket away."""
        if self._net is not None:
            self._net.cancel()
        if self._distant is not None:
            self._distant.close()
        if self._receiver is not None and self._folder is not None:
            asyncio.get_running_loop().remove_reader(self._receiver)
            self._receiver.close()
            (self._folder / f"{self._name}.sock").unlink(missing_ok=True)
        if self._sender is not None:
            self._sender.close()

    def nudge(self) -> None:
        """Wake this process alone, from its own event loop."""
        self._event.set()

    def ring(self) -> None:
        """There is work: wake this process, the others of this host, and those of other machines."""
        self._event.set()
        if self._distant is not None:
            self._distant.ring()
        if self._folder is not None and hasattr(socket, "AF_UNIX"):
            self._ring_others(self._folder)

    def _ring_others(self, folder: Path) -> None:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        own = f"{self._name}.sock"
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name != own and name.endswith(".sock"):
                    self._send(folder / name)

    def _send(self, path: Path) -> None:
        assert self._sender is not None
        try:
            self._sender.sendto(b"1", str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        except OSError:
            pass  # full, or a path that is too long: it has been rung already, or the net finds it

    def _heard(self) -> None:
        assert self._receiver is not None
        with suppress(BlockingIOError):
            while self._receiver.recv(64):
                self._event.set()

    async def _watch(self, changed: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(NET_SECONDS)
            try:
                news = changed()
            except Exception:
                news = True  # the database will tell the worker itself what is wrong
            if news:
                self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, or after so many seconds; a ring before the call counts."""
        deaf = self._distant is not None and not self._distant.listening
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(seconds, DEAF_SECONDS) if deaf else seconds)):
                await self._event.wait()
        self._event.clear()


def _bind(path: Path) -> socket.socket | None:
    if len(os.fsencode(path)) > MAX_PATH:
        return None
    path.unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    try:
        receiver.bind(str(path))
    except OSError:
        receiver.close()
        return None
    return receiver
