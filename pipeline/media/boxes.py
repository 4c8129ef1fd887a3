"""Boxes of the ISO base media file format (ISO/IEC 14496-12): found in a file or in memory, within bounds."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.media.faults import InvalidMedia, MediaFault, describe

MAX_METADATA = 32 * 1024 * 1024
"""Bytes of moov and moof boxes that one probe reads in all: hours of video; more is an attack or an accident."""

MAX_BOXES = 400_000
"""Boxes that one probe looks at (a second of work): ten minutes with a fragment for each frame."""

_TOP_LEVEL = frozenset(
    {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"pdin", b"moof", b"sidx"}
)


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its four-character type, and the bytes where its header starts, its content starts and it ends."""

    kind: bytes
    start: int
    body: int
    end: int


class Budget:
    """What one probe may still spend, so that no file can make it slow or large."""

    def __init__(self, boxes: int = MAX_BOXES, metadata: int = MAX_METADATA) -> None:
        self._boxes = boxes
        self._metadata = metadata

    def box(self) -> None:
        """Count one box. Raises InvalidMedia when there were too many."""
        self._boxes -= 1
        if self._boxes < 0:
            raise InvalidMedia(MediaFault.DAMAGED, "the file has more boxes than any real video")

    def metadata(self, size: int) -> None:
        """Count `size` bytes to be read into memory. Raises InvalidMedia when they are too many."""
        self._metadata -= size
        if self._metadata < 0:
            raise InvalidMedia(MediaFault.DAMAGED, f"the file's headers are larger than {MAX_METADATA} bytes")


def top_level(file: BinaryIO, size: int, budget: Budget) -> Iterator[Box]:
    """The boxes of a whole file of `size` bytes, reading 16 bytes of each.

    Raises InvalidMedia: not this format (said in words), truncated (a box says more than the file has), too many boxes.
    What follows the last box and is none (padding, a tag) is not looked at: players ignore it too.
    """
    position = 0
    while position < size:
        head = os.pread(file.fileno(), 16, position)
        if position == 0 and head[4:8] not in _TOP_LEVEL:
            raise describe(os.pread(file.fileno(), 512, 0))
        if len(head) < 8 or not _printable(head[4:8]):
            return
        budget.box()
        box = _box(head, position, size)
        if box.end > size:
            raise InvalidMedia(
                MediaFault.TRUNCATED,
                f"the file is cut short: its {_name(box.kind)} box should end at byte {box.end}, the file has {size}",
            )
        yield box
        position = box.end


def children(data: bytes, box: Box, budget: Budget, skip: int = 0) -> Iterator[Box]:
    """The boxes inside `box`, whose positions are offsets into `data`, after `skip` bytes of its own fields.

    Raises InvalidMedia when one does not fit.
    """
    position = box.body + skip
    while position + 8 <= box.end:
        budget.box()
        child = _box(data[position : position + 16], position, box.end)
        if child.end > box.end:
            raise InvalidMedia(
                MediaFault.DAMAGED, f"the {_name(child.kind)} box does not fit into its {_name(box.kind)}"
            )
        yield child
        position = child.end


def child(data: bytes, box: Box | None, kind: bytes, budget: Budget) -> Box | None:
    """The first box of that type inside `box`, or None."""
    if box is None:
        return None
    return next((found for found in children(data, box, budget) if found.kind == kind), None)


def load(file: BinaryIO, box: Box, budget: Budget) -> tuple[bytes, Box]:
    """Read a box into memory; its positions become offsets into the bytes. Raises InvalidMedia when it is too large."""
    length = box.end - box.start
    budget.metadata(length)
    data = os.pread(file.fileno(), length, box.start)
    if len(data) < length:
        raise InvalidMedia(MediaFault.TRUNCATED, "the file became shorter while it was read")
    return data, Box(box.kind, 0, box.body - box.start, length)


def _box(head: bytes, position: int, limit: int) -> Box:
    size, kind = struct.unpack_from(">I4s", head)
    header = 8
    if size == 1:
        (size,) = struct.unpack_from(">Q", head, 8)
        header = 16
    elif size == 0:
        size = limit - position
    if size < header:
        raise InvalidMedia(MediaFault.DAMAGED, f"the {_name(kind)} box at byte {position} says it is {size} bytes long")
    return Box(kind, position, position + header, position + size)


def _printable(kind: bytes) -> bool:
    return all(32 <= byte < 127 or byte == 0xA9 for byte in kind)


def _name(kind: bytes) -> str:
    return kind.decode("latin-1") if _printable(kind) else kind.hex()
