"""How long things are kept, and what a round of maintenance did about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Sleep = Callable[[float], Awaitable[None]]

BATCH = 500
"""Rows of one commit at most."""
MIN_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Keep:
    """Seconds for which things are kept after their end; 0 is for ever. Each is the setting KEEP_ of its name."""

    videos: float = 0.0
    inputs: float = 0.0
    generations: float = 0.0
    ledger: float = 0.0
    jobs: float = 0.0
    events: float = 0.0
    timeline: float = 0.0
    callbacks: float = 0.0


@dataclass(slots=True)
class Round:
    """What a round did, or would do.

    Attributes:
        counts: how many of each kind: `videos`, `inputs`, `generations`, `ledger`, `jobs`, `events`, `timeline`,
            `callbacks` (rows or files that were kept for their time), `workers` (that are long gone),
            `webhook_secrets` (that have ended), `webhook_endpoints` (that were deleted), `spool_files`, `uploads` (that
            nobody finishes). From `workers` on nothing is counted in a dry run.
        problems: what could not be done, in words.
        unfinished: there was more than one round takes; the next comes soon.
    """

    dry_run: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unfinished: bool = False

    def add(self, kind: str, count: int) -> None:
        """Count some more of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + count


async def breathe(sleep: Sleep, took: float) -> None:
    """Leave the database to others for as long as it was used (seconds)."""
    await sleep(max(took, MIN_PAUSE))
