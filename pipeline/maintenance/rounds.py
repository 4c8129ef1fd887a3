"""A round of maintenance: bounded, in small commits, and harmless when other processes do the same."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pipeline.clock import Clock
from pipeline.db import Database, Tx
from pipeline.maintenance.files import Files
from pipeline.maintenance.keep import Keep, Round, Sleep
from pipeline.maintenance.orphans import Orphans, Sweep
from pipeline.maintenance.rows import prune_rows
from pipeline.names import is_ours
from pipeline.outbox import Outbox, forget_deleted, forget_expired
from pipeline.spool import Spool
from pipeline.storage import Storage, StorageError
from pipeline.telemetry import emit

EVERY_SECONDS = 3600.0
SOON_SECONDS = 60.0
UPLOAD_SECONDS = 86_400.0
WORKER_MS = 86_400_000


class Maintenance:
    """One round an hour per process, the next in a minute while there is more than a round takes.

    Args:
        outbox: records `generation.expired`.
        sleep: leaves the database to others between two commits.
    """

    def __init__(
        self,
        db: Database,
        storage: Storage,
        spool: Spool,
        outbox: Outbox,
        clock: Clock,
        keep: Keep,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._db = db
        self._storage = storage
        self._spool = spool
        self._outbox = outbox
        self._clock = clock
        self._keep = keep
        self._sleep = sleep
        self._files = Files(db, storage, outbox, clock, sleep)
        self._next = clock.monotonic()

    async def run_if_due(self) -> None:
        """Run a round if it is time for one."""
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + EVERY_SECONDS
        if (await self.run()).unfinished:
            self._next = self._clock.monotonic() + SOON_SECONDS

    async def run(self, *, dry_run: bool = False) -> Round:
        """One round, or what it would do. Raises DatabaseError; a storage that fails is told in `problems`."""
        done = Round(dry_run)
        await self._files.prune(self._keep, done)
        await prune_rows(self._db, self._clock, self._sleep, self._keep, done)
        if not dry_run:
            await self._tidy(done)
            for problem in done.problems:
                emit("service.notice", level=logging.WARNING, notice=problem)
            if any(done.counts.values()):
                counts: dict[str, Any] = {kind: count for kind, count in done.counts.items() if count}
                emit("maintenance.done", **counts)
        return done

    async def sweep_orphans(self, *, dry_run: bool = True, force: bool = False) -> Orphans:
        """Find files without rows and rows without files; with `dry_run` False delete the former and mark the latter.

        When more than half looks wrong nothing is done unless `force` is set. Raises StorageError and DatabaseError.
        """
        return await Sweep(self._db, self._storage, self._outbox, self._clock, dry_run=dry_run).run(force=force)

    async def _tidy(self, done: Round) -> None:
        done.add("workers", await self._db.write(_forget_workers))
        done.add("webhook_secrets", await self._db.write(forget_expired))
        done.add("webhook_endpoints", await self._db.write(forget_deleted))
        done.add("spool_files", self._spool.sweep())
        try:
            done.add("uploads", await self._storage.abort_unfinished(UPLOAD_SECONDS, is_ours))
        except StorageError as error:
            done.problems.append(f"unfinished uploads could not be aborted: {error}")


def _forget_workers(tx: Tx) -> int:
    return tx.run("DELETE FROM worker WHERE seen_at < :before", {"before": tx.now - WORKER_MS})
