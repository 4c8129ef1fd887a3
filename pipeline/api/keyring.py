"""What a process remembers of keys between requests, so that not every request asks the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.db import Row

REMEMBER_SECONDS = 5.0
"""How long a key that was looked up is believed, and so how long a revoked one may still work."""

MANY_KEYS = 10_000


@dataclass(slots=True)
class KeyRing:
    """Keys by their hash, and whether any exist."""

    monotonic: Callable[[], float] = time.monotonic
    _rows: dict[str, tuple[float, Row | None]] = field(default_factory=dict)
    _any: tuple[float, bool] = (0.0, False)

    def row(self, hashed: str) -> tuple[bool, Row | None]:
        """Whether this key was looked up a moment ago, and what was found."""
        until, row = self._rows.get(hashed, (0.0, None))
        return self.monotonic() < until, row

    def remember(self, hashed: str, row: Row | None) -> None:
        """Keep what was found."""
        if len(self._rows) >= MANY_KEYS:
            self._rows.clear()
        self._rows[hashed] = (self.monotonic() + REMEMBER_SECONDS, row)

    def any(self) -> bool | None:
        """Whether keys exist, or None if that was asked too long ago."""
        until, known = self._any
        return known if self.monotonic() < until else None

    def remember_any(self, known: bool) -> None:
        """Keep whether keys exist."""
        self._any = (self.monotonic() + REMEMBER_SECONDS, known)
