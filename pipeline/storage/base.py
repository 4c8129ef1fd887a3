"""What a storage is: the protocol, its errors and the rules for keys. Pure.

Errors::

    StorageError               code, retryable; the message says what to do
      StorageUnavailable       not now: network, overload, full disk (retryable)
      StorageDenied            wrong keys, no bucket, no permission: an operator has to act; trying again may then work
      ObjectMissing            nothing is stored under the key
      ObjectTooLarge           larger than the reader allows
      IntegrityError           the bytes are not those that were announced (retryable, from the download on)
      InvalidKey               a key that could leave its place; a bug of the caller
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

MAX_LINK_LIFETIME = 7 * 86400
"""Seconds that a presigned link lives at most (Signature Version 4; R2 has the same limit)."""

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class StorageError(Exception):
    """Something about stored files went wrong. `code` is for machines, `retryable`: the same call may work later."""

    code: ClassVar[str] = "storage_error"
    retryable: ClassVar[bool] = False


class StorageUnavailable(StorageError):
    """The storage cannot be reached or is too busy, or the disk is full."""

    code = "storage_unavailable"
    retryable = True


class StorageDenied(StorageError):
    """The storage refuses us until an operator changes something; the message says what."""

    code = "storage_denied"


class ObjectMissing(StorageError):
    """Nothing is stored under this key."""

    code = "object_missing"


class ObjectTooLarge(StorageError):
    """The object is larger than the reader's limit."""

    code = "object_too_large"


class IntegrityError(StorageError):
    """The bytes differ in length or hash from what was announced."""

    code = "storage_integrity"
    retryable = True


class InvalidKey(StorageError, ValueError):
    """The key has other characters than A-Z a-z 0-9 . _ - /, an empty part, or a part that starts with a dot."""

    code = "invalid_key"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing tells: `size` in bytes, `modified` in seconds since the epoch, by the storage's own clock."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """Where files live. Every method raises InvalidKey for a bad key, and StorageUnavailable or StorageDenied."""

    async def put(self, key: str, source: Path, *, content_type: str, sha256: str, md5: bytes | None = None) -> None:
        """Store the file `source` under `key`, whole or not at all; repeating it is harmless.

        `source` must not be written to afterwards: it may become the stored file. `sha256` is the hash in hex of its
        bytes; `md5` the 16 bytes of theirs, which save one reading when the caller knows them.
        Raises IntegrityError when the bytes are others, FileNotFoundError when there is no `source`.
        """

    async def size(self, key: str) -> int | None:
        """The stored length in bytes, or None when there is nothing."""

    async def read(self, key: str, limit: int) -> bytes:
        """The bytes of a small object. Raises ObjectMissing, or ObjectTooLarge above `limit` bytes."""

    async def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""

    async def link(
        self, key: str, *, expires: int, content_type: str | None = None, filename: str | None = None
    ) -> str | None:
        """A URL that anyone may GET for `expires` seconds (at most MAX_LINK_LIFETIME), or None: serve `local_path`.

        With `filename` a browser saves the file under that name. Whether the object exists is not looked at.
        """

    def local_path(self, key: str) -> Path | None:
        """Where the file is on this machine, or None when it is elsewhere. It may not exist."""

    async def check(self) -> None:
        """Write, read and delete a small object. Raises StorageError whose message says what to do."""

    def keys(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Everything whose key begins with `prefix`, in no order, other people's objects included.

        It is read in pages while it is gone through; what is put or deleted meanwhile may be missing or be there.
        """

    async def abort_unfinished(self, older_than: float, ours: Callable[[str], bool]) -> int:
        """Remove what interrupted puts of keys that are `ours` left behind more than `older_than` seconds ago; how
        many there were."""

    async def close(self) -> None:
        """Release threads and connections of its own."""


def valid_key(key: str) -> str:
    """The key itself. Raises InvalidKey."""
    if len(key) > 900 or not _KEY.fullmatch(key):
        raise InvalidKey(f"{key[:100]!r} is not a storage key")
    return key
