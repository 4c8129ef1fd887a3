"""Rows of `metric`: this package is their only writer.

`minute` is minutes since 1970 by the database's clock. A row of a process and minute is written by that process alone;
later any process folds it, under a lock, into rows without a worker: of the same minute, then of ten, then of an hour,
then of minute 0, which holds the sum of all days before. A total is the sum over all rows, so it never falls. Minute -1
holds what each process last said of itself (`total`), and when (`count`, in milliseconds).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pipeline.db import Row, Tx
from pipeline.statistics.metric import Cell

MINUTE_MS = 60_000
GAUGES = -1
ALL = ""
"""The worker of a folded row."""

SETTLED_MINUTES = 2
"""No process writes into minutes before these."""
BY_MINUTE = 15
BY_TENTH = 130
BY_HOUR = 25 * 60
TENTH = 10
"""Rows are of one minute for a quarter of an hour, of ten minutes for two hours more, of an hour for a day."""
FOLD_ROWS = 5_000
FOLD_LOCK = 0x6461696C
GAUGE_MS = 90_000
"""A process that has not written for so long is gone."""
KEEP_GAUGES_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Key:
    """Which figure: a metric's name and its labels as JSON."""

    name: str
    label: str

    def labels(self) -> dict[str, str]:
        """The labels by name."""
        return dict(_read_labels(self.label))


@lru_cache(maxsize=4096)
def _read_labels(text: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(text)
    return found


def add(tx: Tx, worker: str, cells: Mapping[Key, Cell]) -> None:
    """Add what a process counted to its rows of this minute."""
    _merge(tx, [(tx.now // MINUTE_MS, worker, key, cell) for key, cell in cells.items()])


def _merge(tx: Tx, sums: Iterable[tuple[int, str, Key, Cell]]) -> None:
    for minute, worker, key, cell in sums:
        where = {"minute": minute, "worker": worker, "name": key.name, "label": key.label}
        tx.run(
            "INSERT INTO metric (minute, worker, name, label, count, total, buckets)"
            " VALUES (:minute, :worker, :name, :label, :count, :total, :buckets)"
            " ON CONFLICT (minute, worker, name, label) DO UPDATE SET count = metric.count + excluded.count,"
            " total = metric.total + excluded.total, buckets = excluded.buckets",
            where
            | {
                "count": cell.count,
                "total": cell.total,
                "buckets": _buckets(tx, where, cell) if cell.buckets else None,
            },
        )


def _buckets(tx: Tx, where: Mapping[str, object], cell: Cell) -> str:
    """The buckets as they are with those of the row, which is held."""
    before = tx.value(
        "SELECT buckets FROM metric WHERE minute = :minute AND worker = :worker AND name = :name"
        f" AND label = :label{tx.for_update}",
        where,
    )
    both = Cell(buckets=dict(cell.buckets))
    both.merge(Cell(buckets=json.loads(before) if before else {}))
    return json.dumps(both.buckets)


def set_gauges(tx: Tx, worker: str, values: Mapping[Key, float]) -> None:
    """What a process says of itself just now."""
    for key, value in values.items():
        tx.run(
            "INSERT INTO metric (minute, worker, name, label, count, total) VALUES (:minute, :worker, :name, :label,"
            " :now, :value) ON CONFLICT (minute, worker, name, label) DO UPDATE SET count = excluded.count,"
            " total = excluded.total",
            {
                "minute": GAUGES,
                "worker": worker,
                "name": key.name,
                "label": key.label,
                "now": tx.now,
                "value": value,
            },
        )


def drop_gauges(tx: Tx, worker: str) -> None:
    """A process says no more of itself."""
    tx.run("DELETE FROM metric WHERE minute = :minute AND worker = :worker", {"minute": GAUGES, "worker": worker})


def gauges(tx: Tx) -> list[tuple[Key, float]]:
    """What the processes that live said of themselves last."""
    rows = tx.all(
        "SELECT name, label, total FROM metric WHERE minute = :minute AND count > :since ORDER BY name, label",
        {"minute": GAUGES, "since": tx.now - GAUGE_MS},
    )
    return [(Key(row["name"], row["label"]), row["total"]) for row in rows]


def totals(tx: Tx, since_minute: int = 0, names: Iterable[str] = ()) -> dict[Key, Cell]:
    """The sums over all rows from a minute on, of all metrics or of those named."""
    wanted = [*names]
    named = f" AND name IN ({', '.join(f':n{at}' for at in range(len(wanted)))})" if wanted else ""
    rows = tx.all(
        f"SELECT name, label, count, total, buckets FROM metric WHERE minute >= :since{named}",
        {"since": since_minute} | {f"n{at}": name for at, name in enumerate(wanted)},
    )
    return _summed((Key(row["name"], row["label"]), row) for row in rows)


def _summed(rows: Iterable[tuple[Key, Row]]) -> dict[Key, Cell]:
    sums: dict[Key, Cell] = {}
    for key, row in rows:
        sums.setdefault(key, Cell()).merge(_cell(row))
    return sums


def _cell(row: Row) -> Cell:
    return Cell(row["count"], row["total"], json.loads(row["buckets"]) if row["buckets"] else {})


def fold(tx: Tx) -> int:
    """Make old rows fewer; returns how many went. One process at a time: another's turn ends with nothing done."""
    if tx.postgres and not tx.value("SELECT pg_try_advisory_xact_lock(:lock)", {"lock": FOLD_LOCK}):
        return 0
    now = tx.now // MINUTE_MS
    rows = tx.all(
        "DELETE FROM metric WHERE (minute, worker, name, label) IN (SELECT minute, worker, name, label FROM metric"
        " WHERE minute > 0 AND ((worker <> '' AND minute < :settled) OR (minute % 10 <> 0 AND minute < :tenths)"
        " OR (minute % 60 <> 0 AND minute < :hourly) OR minute < :daily) ORDER BY minute LIMIT :limit) RETURNING *",
        {
            "settled": now - SETTLED_MINUTES,
            "tenths": now - BY_MINUTE,
            "hourly": now - BY_TENTH,
            "daily": now - BY_HOUR,
            "limit": FOLD_ROWS,
        },
    )
    sums: dict[tuple[int, Key], Cell] = {}
    for row in rows:
        into = (_folded(row["minute"], now), Key(row["name"], row["label"]))
        sums.setdefault(into, Cell()).merge(_cell(row))
    _merge(tx, [(minute, ALL, key, cell) for (minute, key), cell in sums.items()])
    tx.run(
        "DELETE FROM metric WHERE minute = :minute AND count < :before",
        {"minute": GAUGES, "before": tx.now - KEEP_GAUGES_MS},
    )
    return len(rows)


def _folded(minute: int, now: int) -> int:
    if minute < now - BY_HOUR:
        return 0
    if minute < now - BY_TENTH:
        return minute - minute % 60
    return minute - minute % TENTH if minute < now - BY_MINUTE else minute
