"""Files in a folder of this machine: written aside, made durable, then renamed into place."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from pipeline.storage.base import (
    ObjectMissing,
    ObjectTooLarge,
    StorageDenied,
    StorageUnavailable,
    StoredObject,
    valid_key,
)
from pipeline.storage.hashing import digest, expect
from pipeline.storage.source import CHUNK, Source
from pipeline.storage.threads import Threads

_PARTS = ".parts"
_PAGE = 1000
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalStorage:
    """A `Storage` in a folder. The API serves the bytes by `local_path`.

    Args:
        root: the folder, made when missing. Unfinished files lie in `.parts` beside the finished ones, which no key
            can name: one rename away, and found without walking through everything.
        hard_links: let the stored file be the source file when both are on one filesystem, instead of a copy.
        clock: seconds since the epoch, for the age of what is unfinished.
    """

    def __init__(self, root: Path, *, hard_links: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._root = root.absolute()
        self._hard_links = hard_links
        self._clock = clock
        self._threads = Threads("files", 2)

    async def put(self, key: str, source: Path, *, content_type: str, sha256: str, md5: bytes | None = None) -> None:
        """See `Storage.put`. The type is not kept: a local file's suffix says it."""
        target = self.local_path(key)
        origin = await self._threads.run(Source, source)
        try:
            await self._threads.run(self._put, target, origin, sha256)
        finally:
            self._threads.start(origin.close)

    async def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        return await self._threads.run(self._size, self.local_path(key))

    async def read(self, key: str, limit: int) -> bytes:
        """See `Storage.read`."""
        return await self._threads.run(self._read, self.local_path(key), limit)

    async def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        await self._threads.run(self._delete, self.local_path(key))

    async def link(
        self, key: str, *, expires: int, content_type: str | None = None, filename: str | None = None
    ) -> str | None:
        """None: nobody but this process can reach the file."""
        valid_key(key)
        return None

    def local_path(self, key: str) -> Path:
        """See `Storage.local_path`."""
        return self._root / valid_key(key)

    async def check(self) -> None:
        """See `Storage.check`."""
        await self._threads.run(self._check)

    async def keys(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """See `Storage.keys`."""
        found = self._walk(prefix)
        while page := await self._threads.run(lambda: list(islice(found, _PAGE))):
            for stored in page:
                yield stored

    async def abort_unfinished(self, older_than: float, ours: Callable[[str], bool]) -> int:
        """See `Storage.abort_unfinished`. What lies in `.parts` is all our own."""
        return await self._threads.run(self._sweep, self._clock() - older_than)

    async def close(self) -> None:
        """See `Storage.close`."""
        await self._threads.close()

    def _put(self, target: Path, origin: Source, sha256: str) -> None:
        part = self._root / _PARTS / f"{target.name}.{secrets.token_hex(8)}.part"
        with self._explained():
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                if not (self._hard_links and _link(origin.path, part)):
                    _copy(origin, part)
                with Source(part) as written:
                    expect(digest(origin.gate(written.read), written.size, max(written.size, 1)).sha256, sha256)
                    written.sync()
                self._publish(part, target)
            finally:  # also after success: renaming one link of a file over another of the same leaves both
                part.unlink(missing_ok=True)

    def _publish(self, part: Path, target: Path) -> None:
        """Rename into place and make every new name durable, from the file up to the root."""
        fresh = [folder for folder in target.parents if folder.is_relative_to(self._root) and not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        for folder in (target.parent, *(folder.parent for folder in fresh)):
            _sync(folder)

    def _size(self, path: Path) -> int | None:
        with self._explained():
            try:
                return path.stat().st_size if path.is_file() else None
            except FileNotFoundError:
                return None

    def _read(self, path: Path, limit: int) -> bytes:
        with self._explained():
            try:
                with path.open("rb") as file:
                    data = file.read(limit + 1)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectMissing(f"no file {path}") from None
        if len(data) > limit:
            raise ObjectTooLarge(f"{path} is larger than {limit} bytes")
        return data

    def _delete(self, path: Path) -> None:
        """Remove the file and the folders that it leaves empty."""
        with self._explained():
            try:
                path.unlink(missing_ok=True)
            except (NotADirectoryError, IsADirectoryError):
                return
            for folder in path.parents:
                if folder == self._root or not _remove_if_empty(folder):
                    return

    def _check(self) -> None:
        with self._explained():
            parts = self._root / _PARTS
            parts.mkdir(parents=True, exist_ok=True)
            probe = parts / f"check.{secrets.token_hex(8)}.part"
            try:
                probe.write_bytes(b"ok")
                if probe.read_bytes() != b"ok":
                    raise StorageUnavailable(f"{self._root} does not give back what was written: check the disk")
            finally:
                probe.unlink(missing_ok=True)

    def _walk(self, prefix: str) -> Iterator[StoredObject]:
        """All finished files; a folder that is gone or unreadable is as good as empty."""
        for folder, _, names in os.walk(self._root):
            inside = Path(folder).relative_to(self._root)
            if inside.parts[:1] == (_PARTS,):
                continue
            for name in names:
                key = (inside / name).as_posix()
                if key.startswith(prefix):
                    with suppress(FileNotFoundError):
                        found = (self._root / key).stat()
                        yield StoredObject(key, found.st_size, max(found.st_mtime, found.st_ctime))

    def _sweep(self, before: float) -> int:
        swept = 0
        with self._explained():
            for part in (self._root / _PARTS).glob("*.part"):
                if part.stat().st_ctime < before:
                    part.unlink(missing_ok=True)
                    swept += 1
        return swept

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the operating system says into what an operator can do."""
        try:
            yield
        except OSError as error:
            if error.errno in _DENIED:
                raise StorageDenied(
                    f"{self._root} cannot be used ({error}): give it to the user of this service, or change DATA_DIR"
                ) from error
            raise StorageUnavailable(
                f"{self._root} cannot be used ({error}): free the disk or change DATA_DIR"
            ) from error


def _link(origin: Path, part: Path) -> bool:
    try:
        os.link(origin.resolve(), part)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        return False
    return True


def _copy(origin: Source, part: Path) -> None:
    with part.open("xb") as writer:
        for offset in range(0, origin.size, CHUNK):
            writer.write(origin.read(min(CHUNK, origin.size - offset), offset))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
