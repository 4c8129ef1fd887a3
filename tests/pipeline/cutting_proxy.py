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
    """Forwards to a port of 127.0.0.1. `cut` holds for the next COMMIT and falls back to NEVER."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut = Cut.NEVER
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
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT\x00" in data and self.cut is not Cut.NEVER:
                    self._cut(data, client, server)
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _cut(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        """The client's side goes first, so that the answer, which proves the commit, reaches only us."""
        cut, self.cut = self.cut, Cut.NEVER
        client.shutdown(socket.SHUT_RDWR)
        if cut is Cut.AFTER:
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
