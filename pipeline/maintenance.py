"""Maintenance: delete finished jobs and old events after their time, sweep the spool, abort uploads that nobody
finishes."""

from __future__ import annotations

from pipeline import outbox, queue
from pipeline.clock import Clock
from pipeline.db import Database, Tx
from pipeline.lifecycle import JobKind
from pipeline.spool import Spool
from pipeline.storage import Storage, StorageError
from pipeline.telemetry import emit

EVERY_SECONDS = 3600.0
UPLOAD_SECONDS = 86_400.0
WORKER_MS = 86_400_000
BATCH = 500


class Maintenance:
    """One round an hour per process; every step is harmless when others do it too."""

    def __init__(self, db: Database, storage: Storage, spool: Spool, clock: Clock, *, keep: float) -> None:
        self._db = db
        self._storage = storage
        self._spool = spool
        self._clock = clock
        self._keep_ms = int(keep * 1000)
        self._next = clock.monotonic()

    async def run_if_due(self) -> None:
        """Run a round if the last one is an hour ago."""
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + EVERY_SECONDS
        await self.run()

    async def run(self) -> None:
        """One round, in small commits so that no claim waits for it."""
        swept = self._spool.sweep()
        pruned = 0
        while done := await self._db.write(self._prune):
            pruned += done
        try:
            aborted = await self._storage.abort_unfinished(UPLOAD_SECONDS)
        except StorageError as error:
            aborted = 0
            emit("service.notice", notice=f"unfinished uploads could not be aborted: {error}")
        if swept or pruned or aborted:
            emit("maintenance.done", pruned=pruned, spool_files=swept, uploads_aborted=aborted)

    def _prune(self, tx: Tx) -> int:
        before = tx.now - self._keep_ms
        gone = outbox.prune(tx, before=before, limit=BATCH)
        gone += sum(queue.prune(tx, kind=kind, before=before, limit=BATCH) for kind in JobKind)
        tx.run("DELETE FROM worker WHERE seen_at < :before", {"before": tx.now - WORKER_MS})
        return gone
