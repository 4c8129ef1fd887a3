"""Clock: the database's time, told by this process's monotonic clock, so that a wrong host clock changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Milliseconds and seconds of the database's clock. It starts from the host's and is set right by every claim."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, host: Callable[[], float] = time.time) -> None:
        self.monotonic = monotonic
        self._offset = host() - monotonic()

    def sync(self, database_ms: int) -> None:
        """Learn what time the database has just now."""
        self._offset = database_ms / 1000 - self.monotonic()

    def now(self) -> float:
        """Seconds since 1970."""
        return self.monotonic() + self._offset

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.now() * 1000)
