"""Presence: a process says that it is alive, and says good-bye."""

from __future__ import annotations

import asyncio
import logging

from pipeline.db import Database, Tx
from pipeline.telemetry import emit
from pipeline.worker.limits import Identity

HEARTBEAT_SECONDS = 30.0


class Presence:
    """The process's row in `worker`."""

    def __init__(self, db: Database, identity: Identity) -> None:
        self._db = db
        self._identity = identity

    async def keep(self) -> None:
        """Sign in again and again until cancelled."""
        while True:
            try:
                await self._db.write(self._sign_in)
            except Exception as error:
                emit("worker.failed", level=logging.WARNING, error=f"heartbeat: {error!r}")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _sign_in(self, tx: Tx) -> None:
        me = self._identity
        tx.run(
            "INSERT INTO worker (id, host, pid, version, started_at, seen_at)"
            " VALUES (:id, :host, :pid, :version, :now, :now)"
            " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
            {"id": me.id, "host": me.host, "pid": me.pid, "version": me.version, "now": tx.now},
        )

    def sign_out(self, tx: Tx) -> None:
        """Take the row away."""
        tx.run("DELETE FROM worker WHERE id = :id", {"id": self._identity.id})
