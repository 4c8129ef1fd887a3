"""How many requests a key may make: a token bucket per key, in this process alone.

With several API processes each counts for itself, so that a key may make up to that many times more: the limit is there
to keep one app from crowding out the others, not to bill it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

NAME = "key"
WINDOW = 60
BURST_PART = 6
MIN_BURST = 5
MANY_BUCKETS = 10_000
_HAIR = 1e-6
"""Parts of a request that rounding may eat or add."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a key stands after a request.

    Attributes:
        rate: requests per minute.
        remaining: requests that would be taken at once.
        seconds: how long these have to last: whoever spreads them over so many seconds is never refused. With none
            left, after how many seconds the next is taken.
        allowed: whether this request was taken.
    """

    rate: int
    remaining: int
    seconds: int
    allowed: bool

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-11 (2026-05-23) writes it: two lists of named items, `q` the quota
        of the window `w`, `r` what is left of it for the next `t` seconds."""
        return {
            "RateLimit-Policy": f'"{NAME}";q={self.rate};w={WINDOW}',
            "RateLimit": f'"{NAME}";r={self.remaining};t={self.seconds}',
        }


@dataclass(slots=True)
class Buckets:
    """A bucket per key: it holds `burst` requests and gets `rate` per minute back.

    What is kept of one is the moment when it will be full again, in seconds of `monotonic`; a full one is not kept.
    """

    monotonic: Callable[[], float] = time.monotonic
    _full_at: dict[str, float] = field(default_factory=dict)

    def take(self, key_id: str, rate: int) -> Limit:
        """Count one request of a key, if there is room for it. `rate` is at least 1."""
        now, interval, size = self.monotonic(), WINDOW / rate, burst(rate)
        wait = max(0.0, self._full_at.get(key_id, now) - now)
        allowed = wait <= (size - 1) * interval + _HAIR * interval
        if allowed:
            wait += interval
            self._keep(key_id, now, now + wait)
        remaining = max(0, math.floor(size - wait / interval + _HAIR))
        lasting = remaining * interval if remaining else wait - (size - 1) * interval
        return Limit(rate, remaining, max(1, math.ceil(lasting - _HAIR)), allowed)

    def _keep(self, key_id: str, now: float, full_at: float) -> None:
        if len(self._full_at) >= MANY_BUCKETS:
            self._full_at = {key: moment for key, moment in self._full_at.items() if moment > now}
        self._full_at[key_id] = full_at


def burst(rate: int) -> int:
    """How many requests a rested key may make at once: what it gets back in ten seconds, and a few at least."""
    return max(MIN_BURST, rate // BURST_PART)
