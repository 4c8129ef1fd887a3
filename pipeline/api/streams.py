"""Those who listen to the events of a service, and how often they are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.db import Database


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between two looks for a commit; on PostgreSQL, which tells nobody, between two looks; between comments
    that keep a stream alive; after how long one who does not read is let go; how long a stream lasts before its caller
    has to prove again that they may hear it."""

    tick: float = 0.1
    blind: float = 0.5
    keep_alive: float = 15.0
    stuck: float = 30.0
    lifetime: float = 900.0


class Streams:
    """All who listen in this process.

    Attributes:
        open: how many do.
    """

    def __init__(self, db: Database, pace: Pace | None = None) -> None:
        self.db = db
        self.pace = pace or Pace()
        self.open = 0
        self._probe: Callable[[], bool] | None = None
        self._elsewhere = 0

    def stamp(self) -> tuple[int, int]:
        """Another one than before if something may have been recorded meanwhile, by any process."""
        if self.db.postgres:
            return self.db.commits, int(time.monotonic() / self.pace.blind)
        if self._probe is None:
            self._probe = self.db.change_probe()
        if self._probe is None or self._probe():
            self._elsewhere += 1
        return self.db.commits, self._elsewhere
