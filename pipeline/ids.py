"""Identifiers: a prefix and a UUIDv7 without dashes, so that they sort by time and hold no dot. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable

Random = Callable[[int], bytes]


def new_id(prefix: str, now_ms: int, random: Random = os.urandom) -> str:
    """Such as `gen_0193...`: 48 bits of milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    value = (now_ms & (2**48 - 1)) << 80 | int.from_bytes(random(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{prefix}_{value:032x}"


def border(prefix: str, ms: int) -> str:
    """What sorts behind every id that was made before this time, and before every later one."""
    return f"{prefix}_{max(0, ms):012x}"
