"""The file that is being stored: opened once, read from any thread, and never closed under a read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from pipeline.storage.base import IntegrityError

CHUNK = 1024 * 1024
"""Bytes that are read at once: large enough that a thread hop costs nothing, small enough to hold some."""


class Abandoned(Exception):
    """The source was closed: its put has ended, by success or by being cancelled."""


class Source:
    """An open file. `size` is its length in bytes when it was opened. Raises FileNotFoundError and other OSErrors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._descriptor = os.open(path, os.O_RDONLY)
        self._open = True
        self.size = os.fstat(self._descriptor).st_size

    def read(self, count: int, offset: int) -> bytes:
        """Exactly `count` bytes. Raises IntegrityError when the file became shorter, Abandoned after `close`."""
        with self._lock:
            if not self._open:
                raise Abandoned
            data = os.pread(self._descriptor, count, offset)
            while len(data) < count:
                more = os.pread(self._descriptor, count - len(data), offset + len(data))
                if not more:
                    raise IntegrityError(f"{self.path} became shorter while it was stored")
                data += more
            return data

    def gate(self, read: Callable[[int, int], bytes]) -> Callable[[int, int], bytes]:
        """The same reading function, which raises Abandoned once this source is closed."""

        def gated(count: int, offset: int) -> bytes:
            if not self._open:
                raise Abandoned
            return read(count, offset)

        return gated

    def sync(self) -> None:
        """Wait until the bytes are on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the file back; waits for a read that is under way."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._descriptor)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
