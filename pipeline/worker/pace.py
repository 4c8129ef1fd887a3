"""Pace: how soon one look at the queue may follow another. Under load looks become rarer and take more at once."""

from __future__ import annotations

from collections.abc import Callable

SHARE = 2.0
"""After a look the worker rests for so many times as long as it took: looks never cost more than a third of the time,
and a look that comes alone waits for nothing."""
LONGEST_REST = 0.1
"""Seconds of rest after a look that took long, such as one that waited for a lock."""


class Pace:
    """Keeps the time of looks.

    Args:
        fill: seconds that a batch is given to fill, MAX_BATCH_TIMEOUT; a full one is followed at once.
        monotonic: seconds of a clock that only goes forward.
    """

    def __init__(self, fill: float, monotonic: Callable[[], float]) -> None:
        self._fill = fill
        self._monotonic = monotonic
        self._next = 0.0

    def looked(self, began: float, *, full: bool) -> None:
        """A look that began at that time has ended; `full` says that it left something which there was a place for."""
        now = self._monotonic()
        rest = 0.0 if full else max(self._fill, min(LONGEST_REST, SHARE * (now - began)))
        self._next = now + rest

    def rest(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - self._monotonic())
