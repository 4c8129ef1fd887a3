"""Purse: the caps, and what one process remembers of today's money. It may be forgotten at any time."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.spending.caps import NO_CAPS, Caps, Shortage, day_of

MOST_TOLD = 10_000
LOOK_MS = 5_000
"""How often it is looked whether there is money again for what was passed over."""
LOOK_SHARE = 50
"""It takes at most this part of the time."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A sum of money over all submissions of a day up to a time; good until `until` (milliseconds)."""

    day: int
    border: int
    micros: int
    until: int


@dataclass(slots=True)
class Purse:
    """The caps, with the memory of one process.

    Attributes:
        patience: seconds from the request until a provider must have taken it (QUEUE_TIMEOUT).
        settled: sums of what is not expected to change soon, by what they are of.
        looks: when a lane's passed-over jobs are looked at again, in milliseconds.
        more: whether the last admission left jobs that it did not look at.
    """

    caps: Caps = NO_CAPS
    patience: float = 86_400.0
    settled: dict[object, Settled] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    more: bool = False
    _told: set[object] = field(default_factory=set)
    _day: int = 0

    def first(self, shortage: Shortage, tenant: str, now_ms: int) -> bool:
        """Whether this is the first time today that this cap holds anything back; only the first is told."""
        if self._day != day_of(now_ms) or len(self._told) > MOST_TOLD:
            self._day = day_of(now_ms)
            self._told.clear()
        what = (shortage.bound, tenant if shortage.bound in {"user", "tenant"} else None, shortage.name)
        if what in self._told:
            return False
        self._told.add(what)
        return True

    def may_look(self, lane: str, now_ms: int) -> bool:
        """Whether it is time to look again at what was passed over."""
        return now_ms >= self.looks.get(lane, 0)

    def looked(self, lane: str, now_ms: int, took_ms: float) -> None:
        """It was looked, which took so long."""
        self.looks[lane] = now_ms + int(max(LOOK_MS, took_ms * LOOK_SHARE))
