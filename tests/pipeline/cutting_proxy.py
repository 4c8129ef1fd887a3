"""A TCP proxy before PostgreSQL that can cut a connection around its COMMIT: before the server hears it, or after."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import Enum


class Cut(Enum):
    NEVER = "never"
    BEFORE = "the server never hears of the COMMIT"
    AFTER = "the server commits and its answer is lost"


class CuttingProxy:
    """Forwards to a port of 127.0.0.1. `cut` holds for the next COMMIT and falls back to NEVER.

    Attributes:
        after: words of a statement; only the COMMIT of a transaction that has sent them is cut.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut = Cut.NEVER
        self.after = b""
        self._robbed: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    def close(self) -> None:
        """Cut everything and wait for every thread."""
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]  # callables of two shapes
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += [client, server]
                self._start(self._forward, client, server)
                self._start(self._back, server, client)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        said = False
        with suppress(OSError):
            while data := client.recv(65536):
                said = said or self.after in data
                if b"COMMIT\x00" in data and self.cut is not Cut.NEVER and said:
                    self._cut(data, client, server)
                    return
                said = said and b"COMMIT\x00" not in data and b"ROLLBACK\x00" not in data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _cut(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        """The answer, which proves the commit, reaches only us; the client loses its connection then, or at once."""
        cut, self.cut = self.cut, Cut.NEVER
        if cut is Cut.AFTER:
            self._robbed.add(client)
            server.sendall(data)
            return
        client.shutdown(socket.SHUT_RDWR)
        server.shutdown(socket.SHUT_WR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if client in self._robbed:
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
