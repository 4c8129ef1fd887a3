"""Rows that were kept for their time, deleted in small commits with pauses, so that no claim waits for it."""

from __future__ import annotations

from typing import Protocol

from pipeline import ledger, outbox, queue, rings, timeline
from pipeline.clock import Clock
from pipeline.db import Database, Tx
from pipeline.maintenance.keep import BATCH, Keep, Round, Sleep, breathe

BATCHES = 200
"""Commits per kind and round."""


class Prune(Protocol):
    """Delete up to `limit` rows of a kind from before a time (milliseconds); with `dry` count them all."""

    def __call__(self, tx: Tx, *, before: int, limit: int, dry: bool = False) -> int:
        """How many."""


async def prune_rows(db: Database, clock: Clock, sleep: Sleep, keep: Keep, done: Round) -> None:
    """All kinds, one after the other."""
    kinds: dict[str, tuple[float, Prune]] = {
        "ledger": (keep.ledger, ledger.prune),
        "jobs": (keep.jobs, queue.prune),
        "events": (keep.events, outbox.prune),
        "timeline": (keep.timeline, timeline.prune),
        "callbacks": (keep.callbacks, rings.prune),
    }
    for kind, (seconds, prune) in kinds.items():
        if seconds:
            await _prune(db, clock, sleep, done, kind=kind, keep_ms=int(seconds * 1000), prune=prune)


async def _prune(
    db: Database, clock: Clock, sleep: Sleep, done: Round, *, kind: str, keep_ms: int, prune: Prune
) -> None:
    if done.dry_run:
        done.add(kind, await db.read(lambda tx: prune(tx, before=tx.now - keep_ms, limit=0, dry=True)))
        return
    for _ in range(BATCHES):
        began = clock.monotonic()
        count = await db.write(lambda tx: prune(tx, before=tx.now - keep_ms, limit=BATCH))
        if not count:
            return
        done.add(kind, count)
        await breathe(sleep, clock.monotonic() - began)
    done.unfinished = True
