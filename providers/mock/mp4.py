"""An MP4 file around H.264 samples: one video track, the index before the data (ISO/IEC 14496-12 and -15)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

TIMESCALE = 1000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mux(samples: Sequence[bytes], *, sps: bytes, pps: bytes, width: int, height: int, frame_ms: int) -> bytes:
    """A whole file. `samples` are access units of length-prefixed NAL units, the first one is the only key frame."""
    head = _box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isomiso2avc1mp41")
    data = b"".join(samples)
    length = len(samples) * frame_ms
    track = _box(
        b"trak", _tkhd(length, width, height), _mdia(samples, length, frame_ms, _avc1(sps, pps, width, height))
    )
    index = _box(b"moov", _mvhd(length), track)
    offset = len(head) + len(index) + 8
    return head + index.replace(_stco(0), _stco(offset)) + _box(b"mdat", data)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _mvhd(length: int) -> bytes:
    times = struct.pack(">4I", 0, 0, TIMESCALE, length)
    return _full(b"mvhd", times, struct.pack(">IH10x", 0x10000, 0x100), _MATRIX, bytes(24), struct.pack(">I", 2))


def _tkhd(length: int, width: int, height: int) -> bytes:
    times = struct.pack(">5I8x", 0, 0, 1, 0, length)
    return _full(b"tkhd", times, bytes(8), _MATRIX, struct.pack(">2I", width << 16, height << 16), flags=3)


def _mdia(samples: Sequence[bytes], length: int, frame_ms: int, entry: bytes) -> bytes:
    mdhd = _full(b"mdhd", struct.pack(">4IHH", 0, 0, TIMESCALE, length, 0x55C4, 0))
    hdlr = _full(b"hdlr", struct.pack(">I4s12x", 0, b"vide"), b"VideoHandler\0")
    dinf = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    minf = _box(b"minf", _full(b"vmhd", bytes(8), flags=1), dinf, _stbl(samples, frame_ms, entry))
    return _box(b"mdia", mdhd, hdlr, minf)


def _stbl(samples: Sequence[bytes], frame_ms: int, entry: bytes) -> bytes:
    count = len(samples)
    return _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">3I", 1, count, frame_ms)),
        _full(b"stss", struct.pack(">2I", 1, 1)),
        _full(b"stsc", struct.pack(">4I", 1, 1, count, 1)),
        _full(b"stsz", struct.pack(">2I", 0, count), struct.pack(f">{count}I", *map(len, samples))),
        _stco(0),
    )


def _stco(offset: int) -> bytes:
    return _full(b"stco", struct.pack(">2I", 1, offset))


def _avc1(sps: bytes, pps: bytes, width: int, height: int) -> bytes:
    sets = b"\xe1" + struct.pack(">H", len(sps)) + sps + b"\x01" + struct.pack(">H", len(pps)) + pps
    config = _box(b"avcC", b"\x01" + sps[1:4] + b"\xff" + sets)
    shape = struct.pack(">HHIIIH32xHh", width, height, 0x480000, 0x480000, 0, 1, 24, -1)
    return _box(b"avc1", struct.pack(">6xH16x", 1), shape, config)
