"""What a moov box and its fragments say: tracks, sizes, durations, and how far into the file their samples reach."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipeline.media.boxes import Box, Budget, child, children
from pipeline.media.faults import InvalidMedia, MediaFault

_UNKNOWN = {0: 0xFFFFFFFF, 1: 0xFFFFFFFFFFFFFFFF}


@dataclass(slots=True)
class Track:
    """One track. `duration` in seconds, `samples` counted, `reach` the first byte after its samples in the file."""

    id: int
    handler: bytes
    timescale: int
    duration: float
    codec: str = ""
    width: int = 0
    height: int = 0
    samples: int = 0
    reach: int = 0
    fragment_ticks: int = 0


@dataclass(slots=True)
class Movie:
    """A moov box as values. `duration` and `announced` (of fragments still to come, from mehd) in seconds."""

    duration: float
    announced: float
    tracks: list[Track]
    defaults: dict[int, tuple[int, int]] = field(default_factory=dict)


def read_movie(data: bytes, moov: Box, budget: Budget) -> Movie:
    """Read a moov box held in `data`. Raises InvalidMedia or struct.error when it is damaged."""
    header = child(data, moov, b"mvhd", budget)
    if header is None:
        raise InvalidMedia(MediaFault.DAMAGED, "the moov box has no mvhd")
    timescale, duration = _times(data, header)
    extends = child(data, moov, b"mvex", budget)
    tracks = [_track(data, box, budget) for box in children(data, moov, budget) if box.kind == b"trak"]
    movie = Movie(duration, 0.0, [track for track in tracks if track is not None])
    for track in movie.tracks if extends else ():
        track.duration = track.duration if track.samples else 0.0  # some muxers announce the fragments' length here too
    for box in children(data, extends, budget) if extends else ():
        if box.kind == b"mehd":
            (ticks,) = struct.unpack_from(">Q" if data[box.body] == 1 else ">I", data, box.body + 4)
            movie.announced = ticks / timescale if timescale else 0.0
        elif box.kind == b"trex":
            track_id, _, ticks, size = struct.unpack_from(">4I", data, box.body + 4)
            movie.defaults[track_id] = (ticks, size)
    return movie


def add_fragment(movie: Movie, data: bytes, moof: Box, at: int, budget: Budget) -> None:
    """Add a moof box, held in `data` and starting at byte `at` of the file, to its tracks. Raises as `read_movie`."""
    tracks = {track.id: track for track in movie.tracks}
    for traf in children(data, moof, budget):
        header = child(data, traf, b"tfhd", budget) if traf.kind == b"traf" else None
        if header is None:
            continue
        track_id, base, sample = _fragment_header(data, header, movie.defaults, at)
        if track_id not in tracks:
            continue
        for box in children(data, traf, budget):
            if box.kind == b"trun":
                _add_run(tracks[track_id], data, box, base, sample)


def _times(data: bytes, box: Box) -> tuple[int, float]:
    """Timescale and duration in seconds of an mvhd or mdhd; 0.0 when unknown."""
    version = data[box.body]
    timescale, ticks = struct.unpack_from(
        ">IQ" if version == 1 else ">II", data, box.body + (20 if version == 1 else 12)
    )
    known = timescale and ticks != _UNKNOWN[1 if version == 1 else 0]
    return timescale, ticks / timescale if known else 0.0


def _track(data: bytes, trak: Box, budget: Budget) -> Track | None:
    media = child(data, trak, b"mdia", budget)
    times, handler = child(data, media, b"mdhd", budget), child(data, media, b"hdlr", budget)
    header = child(data, trak, b"tkhd", budget)
    if times is None or handler is None or header is None:
        return None
    (track_id,) = struct.unpack_from(">I", data, header.body + (20 if data[header.body] == 1 else 12))
    timescale, duration = _times(data, times)
    track = Track(track_id, data[handler.body + 8 : handler.body + 12], timescale, duration)
    table = child(data, child(data, media, b"minf", budget), b"stbl", budget)
    if table is not None:
        _describe(track, data, child(data, table, b"stsd", budget), _turned(data, header))
        track.samples, track.reach = _samples({box.kind: box for box in children(data, table, budget)}, data)
    return track


def _describe(track: Track, data: bytes, stsd: Box | None, turned: bool) -> None:
    """Codec and displayed size, from the first sample description."""
    if stsd is None or stsd.body + 16 > stsd.end:
        return
    track.codec = data[stsd.body + 12 : stsd.body + 16].decode("latin-1").strip()
    if track.handler == b"vide":
        width, height = struct.unpack_from(">HH", data, stsd.body + 8 + 32)
        track.width, track.height = (height, width) if turned else (width, height)


def _turned(data: bytes, tkhd: Box) -> bool:
    """Whether the display matrix turns the picture by 90 or 270 degrees."""
    a, b = struct.unpack_from(">ii", data, tkhd.body + (52 if data[tkhd.body] == 1 else 40))
    return bool(a == 0 and b != 0)


def _samples(table: dict[bytes, Box], data: bytes) -> tuple[int, int]:
    """How many samples a table lists, and the first byte after the last of them in the file."""
    if b"stsz" not in table:
        offsets = _chunk_offsets(table, data)
        return len(offsets), max(offsets, default=0)
    fixed, count = struct.unpack_from(">II", data, table[b"stsz"].body + 4)
    sizes = array("I") if fixed else _integers(data, table[b"stsz"], count, "I", skip=12)
    reach, left, rest = 0, count, iter(sizes)
    for offset, promised in zip(_chunk_offsets(table, data), _chunk_counts(table, data), strict=False):
        held = min(promised, left)
        left -= held
        reach = max(reach, offset + (fixed * held if fixed else sum(islice(rest, held))))
    return count - left, reach


def _chunk_offsets(table: dict[bytes, Box], data: bytes) -> array[int]:
    for kind, code in ((b"stco", "I"), (b"co64", "Q")):
        if kind in table:
            (count,) = struct.unpack_from(">I", data, table[kind].body + 4)
            return _integers(data, table[kind], count, code, skip=8)
    return array("Q")


def _chunk_counts(table: dict[bytes, Box], data: bytes) -> Iterator[int]:
    """Samples in each chunk, one after the other, without end."""
    if b"stsc" not in table:
        return
    (count,) = struct.unpack_from(">I", data, table[b"stsc"].body + 4)
    runs = _integers(data, table[b"stsc"], count * 3, "I", skip=8)
    for index in range(0, len(runs), 3):
        last = index + 3 >= len(runs)
        chunks = None if last else max(0, runs[index + 3] - runs[index])
        while chunks is None or chunks > 0:
            yield runs[index + 1]
            chunks = None if chunks is None else chunks - 1


def _integers(data: bytes, box: Box, count: int, code: str, skip: int) -> array[int]:
    """A table of big-endian numbers. Raises InvalidMedia when the box is shorter than its count says."""
    numbers = array(code)
    start = box.body + skip
    end = start + count * numbers.itemsize
    if end > box.end:
        raise InvalidMedia(MediaFault.DAMAGED, f"the {box.kind.decode('latin-1')} table is shorter than it says")
    numbers.frombytes(data[start:end])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _fragment_header(
    data: bytes, tfhd: Box, defaults: dict[int, tuple[int, int]], at: int
) -> tuple[int, int, tuple[int, int]]:
    """Track, base offset in the file, and a sample's default ticks and bytes (tfhd, else trex)."""
    flags, track_id = struct.unpack_from(">II", data, tfhd.body)
    position, base = tfhd.body + 8, at
    ticks, size = defaults.get(track_id, (0, 0))
    if flags & 0x1:
        (base,) = struct.unpack_from(">Q", data, position)
        position += 8
    position += 4 if flags & 0x2 else 0
    if flags & 0x8:
        (ticks,) = struct.unpack_from(">I", data, position)
        position += 4
    if flags & 0x10:
        (size,) = struct.unpack_from(">I", data, position)
    return track_id, base, (ticks, size)


def _add_run(track: Track, data: bytes, trun: Box, base: int, sample: tuple[int, int]) -> None:
    ticks, size = sample
    flags, count = struct.unpack_from(">II", data, trun.body)
    position, offset = trun.body + 8, None
    if flags & 0x1:
        (offset,) = struct.unpack_from(">i", data, position)
        position += 4
    position += 4 if flags & 0x4 else 0
    fields = [flag for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
    rows = _integers(data, trun, count * len(fields), "I", skip=position - trun.body)
    columns = {flag: sum(rows[index :: len(fields)]) for index, flag in enumerate(fields)}
    track.samples += count
    track.fragment_ticks += columns.get(0x100, ticks * count)
    if offset is not None:
        track.reach = max(track.reach, base + offset + columns.get(0x200, size * count))
