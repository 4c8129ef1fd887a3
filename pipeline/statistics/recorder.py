"""The recorder of a process: hears events, adds up in memory, writes what is new every few seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.db import CommitUnknown, Database, DatabaseError, Tx
from pipeline.statistics import rows
from pipeline.statistics.catalog import COUNTED, RULES
from pipeline.statistics.metric import OTHER, Cell, Metric
from pipeline.statistics.rows import Key
from pipeline.telemetry import emit, subscribe

FLUSH_SECONDS = 10.0
"""So much counting a process that is killed may lose."""
FLUSHES_PER_FOLD = 6
CLOSE_SECONDS = 2.0
MAX_LABELS = 500
"""Different labels of one metric in one process; beyond, they count as `other`: a mistake must not fill the table."""

_Counted = tuple[str, tuple[str, ...]]


class Statistics:
    """Counts the events of this process.

    Args:
        process: who writes; the same name must not be used by two processes at once.
        gauges: what the process says of itself, by metric's name, read at each flush.
        sources: counters that are kept elsewhere (value since the process started), by metric's name.
    """

    def __init__(
        self,
        db: Database,
        process: str,
        *,
        gauges: Callable[[], Mapping[str, float]] = dict,
        sources: Mapping[str, Callable[[], float]] | None = None,
    ) -> None:
        self._db = db
        self._process = process
        self._gauges = gauges
        self._sources = dict(sources or {})
        self._read: dict[str, float] = {}
        self._cells: dict[_Counted, Cell] = {}
        self._known: dict[str, set[tuple[str, ...]]] = {}
        self._lock = threading.Lock()
        self._flushing = asyncio.Lock()
        self._unsubscribe = subscribe(self.hear)

    def hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count one event; may be called from any thread."""
        for rule in RULES.get(event, ()):
            amount = rule.amount(fields)
            if amount is not None:
                self._count(rule.metric, rule.values(fields), amount)

    def _count(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        with self._lock:
            known = self._known.setdefault(metric.name, set())
            if labels not in known:
                if len(known) >= MAX_LABELS:
                    labels = (OTHER,) * len(labels)
                known.add(labels)
            self._cells.setdefault((metric.name, labels), Cell()).add(amount, metric)

    async def keep(self) -> None:
        """Flush and fold until cancelled."""
        turns = 0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            turns += 1
            try:
                await self.flush()
                if turns % FLUSHES_PER_FOLD == 0:
                    await self._db.write(rows.fold)
            except DatabaseError as error:
                emit("worker.failed", level=logging.WARNING, error=f"statistics: {error!r}")

    async def flush(self) -> None:
        """Write what is new. Raises DatabaseError: then it is kept for the next time, unless it may have been written.

        Where the answer to COMMIT is lost, up to one flush is lost rather than counted twice.
        """
        async with self._flushing:
            self._read_sources()
            taken = self._take()
            said = {_key(name, {"process": self._process}): value for name, value in self._gauges().items()}

            def unit(tx: Tx) -> None:
                rows.add(tx, self._process, {_named(*counted): cell for counted, cell in taken.items()})
                rows.set_gauges(tx, self._process, said)

            try:
                await self._db.write(unit)
            except CommitUnknown:
                raise
            except Exception:
                self._put_back(taken)
                raise

    def _read_sources(self) -> None:
        for name, read in self._sources.items():
            now = read()
            amount, self._read[name] = now - self._read.get(name, 0.0), now
            if amount > 0:
                self._count(COUNTED[name], (), amount)

    def _take(self) -> dict[_Counted, Cell]:
        with self._lock:
            taken, self._cells = self._cells, {}
        return taken

    def _put_back(self, taken: dict[_Counted, Cell]) -> None:
        with self._lock:
            for counted, cell in taken.items():
                self._cells.setdefault(counted, Cell()).merge(cell)

    async def close(self) -> None:
        """Hear no more, and write what is left if the database answers soon."""
        self._unsubscribe()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.flush()
                await self._db.write(lambda tx: rows.drop_gauges(tx, self._process))
        except (DatabaseError, TimeoutError) as error:
            emit("worker.failed", level=logging.WARNING, error=f"last figures: {error!r}")


def _named(name: str, values: tuple[str, ...]) -> Key:
    return _key(name, dict(zip(COUNTED[name].labels, values, strict=True)))


def _key(name: str, labels: Mapping[str, str]) -> Key:
    return Key(name, json.dumps(labels, sort_keys=True, ensure_ascii=False))
