"""The spool: where a video rests on disk between its download and its upload, within a bound of bytes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BLOCK = 1 << 20
STALE_SECONDS = 6 * 3600.0


class SpoolFull(Exception):
    """There is no room (or no disk) left; come back later."""


class TooLarge(Exception):
    """The file is larger than MAX_VIDEO_BYTES."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole file on disk: its length in bytes, SHA-256 in hex and MD5 as 16 bytes."""

    path: Path
    size: int
    sha256: str
    md5: bytes


class Spool:
    """A folder with a bound. Several processes may share it: each download has a name of its own."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._active: dict[Path, int] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="dailies-spool")
        root.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True)

    def used(self) -> int:
        """Bytes of all files that lie here, those that are being written counted with what they announced."""
        total = sum(self._active.values())
        for path in self._root.iterdir():
            if path not in self._active:
                with suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    def sweep(self, older_than: float = STALE_SECONDS, now: float | None = None) -> int:
        """Remove what a killed process left behind; how many files went."""
        border = (time.time() if now is None else now) - older_than
        gone = 0
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < border:
                    path.unlink()
                    gone += 1
        return gone

    async def fetch(self, name: str, chunks: AsyncIterator[bytes], *, announced: int | None, limit: int) -> Spooled:
        """Write a body to disk and measure it on the way, as `NAME-N.part`; what earlier tries of NAME left goes first.

        Raises SpoolFull, TooLarge (over `limit` bytes), and whatever `chunks` raises; then nothing is left behind.
        """
        if announced is not None and announced > limit:
            raise TooLarge(f"the file has {announced} bytes; MAX_VIDEO_BYTES allows {limit}")
        for old in self._root.glob(f"{name.rpartition('-')[0]}-*.part"):
            self.discard(old)
        if announced is not None and announced > self._limit:
            raise TooLarge(f"the file has {announced} bytes; SPOOL_BYTES is {self._limit}")
        free = self._limit - self.used()
        if (announced or BLOCK) > free:
            raise SpoolFull(f"the spool holds {self._limit - free} of {self._limit} bytes (SPOOL_BYTES)")
        path = self._root / name
        self._active[path] = announced or BLOCK
        try:
            return await self._write(path, chunks, limit, free)
        except OSError as error:
            self.discard(path)
            raise SpoolFull(f"cannot write to the spool: {error}") from error
        except BaseException:
            self.discard(path)
            raise
        finally:
            del self._active[path]

    async def _write(self, path: Path, chunks: AsyncIterator[bytes], limit: int, free: int) -> Spooled:
        sink = await self._open(path, limit, free)
        try:
            block = bytearray()
            async for chunk in chunks:
                block += chunk
                if len(block) >= BLOCK:
                    await self._off_loop(sink.write, bytes(block))
                    block.clear()
            await self._off_loop(sink.write, bytes(block))
            return Spooled(path, sink.size, sink.sha256.hexdigest(), sink.md5.digest())
        finally:
            await asyncio.shield(self._off_loop(sink.file.close))

    async def _open(self, path: Path, limit: int, free: int) -> _Sink:
        """The file, open; it is closed and removed again if whoever wanted it is stopped meanwhile."""
        opening = asyncio.ensure_future(self._off_loop(_Sink, path, limit, free, self._limit))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_abandon)
            raise

    async def _off_loop(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    @staticmethod
    def discard(path: Path) -> None:
        """Remove a file; nothing happens when there is none."""
        path.unlink(missing_ok=True)


def _abandon(opening: asyncio.Future[_Sink]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().file.close()
        Path(opening.result().file.name).unlink(missing_ok=True)


class _Sink:
    """The file and its hashes, written a block at a time off the event loop."""

    def __init__(self, path: Path, limit: int, free: int, room: int) -> None:
        self.file: BinaryIO = path.open("wb")
        self.limit = limit
        self.free = free
        self.room = room
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, block: bytes) -> None:
        self.size += len(block)
        if self.size > self.limit:
            raise TooLarge(f"the file has more than {self.limit} bytes (MAX_VIDEO_BYTES)")
        if self.size > self.room:
            raise TooLarge(f"the file has more than {self.room} bytes (SPOOL_BYTES)")
        if self.size > self.free:
            raise SpoolFull(f"the file is larger than the {self.free} bytes that the spool had left (SPOOL_BYTES)")
        self.file.write(block)
        self.sha256.update(block)
        self.md5.update(block)
