"""The hashes of a file, in one reading and bounded memory. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.storage.base import IntegrityError
from pipeline.storage.source import CHUNK


@dataclass(frozen=True, slots=True)
class Digests:
    """Hex SHA-256 of the whole, and the MD5 (16 bytes) of each part."""

    sha256: str
    parts: tuple[bytes, ...]


def digest(read: Callable[[int, int], bytes], size: int, part_size: int) -> Digests:
    """Hash `size` bytes, which `read(count, offset)` gives in chunks; whatever that raises ends it."""
    whole = hashlib.sha256()
    parts = []
    for start in range(0, max(size, 1), part_size):
        part = hashlib.md5(usedforsecurity=False)
        end = min(start + part_size, size)
        for offset in range(start, end, CHUNK):
            chunk = read(min(CHUNK, end - offset), offset)
            whole.update(chunk)
            part.update(chunk)
        parts.append(part.digest())
    return Digests(whole.hexdigest(), tuple(parts))


def expect(found: str, announced: str) -> None:
    """Compare two hex SHA-256. Raises IntegrityError."""
    if found != announced.lower():
        raise IntegrityError(f"the file's SHA-256 is {found}, announced was {announced}")
