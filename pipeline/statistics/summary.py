"""The last hour in figures for people. Averages are exact; percentiles are estimated from buckets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.db import Tx
from pipeline.statistics import catalog, rows
from pipeline.statistics.metric import Cell, Metric, text_of
from pipeline.statistics.rows import MINUTE_MS, Key

WINDOW = 60
"""Minutes; up to nine more, since older rows are of ten minutes each."""

_READ = (
    catalog.PHASES,
    catalog.DURATION,
    catalog.ENDED,
    catalog.RETRIES,
    catalog.CALLS,
    catalog.CALL_ERRORS,
    catalog.RATE_LIMITS,
    catalog.ATTEMPTS,
    catalog.DELIVERY,
    catalog.DELIVERIES_DEAD,
    catalog.COST,
)
_NAMES = {"waiting": "wait", "submitting": "submit", "processing": "generate", "storing": "store"}

Sums = Mapping[Key, Cell]


def last_hour(tx: Tx) -> dict[str, Any]:
    """What ended, how long it took, and how the providers and receivers behaved, in the last 60 to 69 minutes.

    Times in seconds; `windowSeconds` says what is covered. Figures come a few seconds late: each process writes its own
    every ten.
    """
    since = tx.now // MINUTE_MS - WINDOW
    since -= since % rows.TENTH
    seconds = tx.now // 1000 - since * 60
    sums = rows.totals(tx, since, [metric.name for metric in _READ])
    ended = {status: _count(sums, catalog.ENDED, status=status) for status in ("completed", "failed", "cancelled")}
    decided = ended["completed"] + ended["failed"]
    calls = _count(sums, catalog.CALLS)
    return {
        "windowSeconds": seconds,
        **ended,
        "completedPerMinute": round(ended["completed"] * 60 / seconds, 2),
        "failedPerMinute": round(ended["failed"] * 60 / seconds, 2),
        "successRate": round(ended["completed"] / decided, 4) if decided else None,
        "retries": _count(sums, catalog.RETRIES),
        "seconds": {
            **{name: _times(catalog.PHASES, _sum(sums, catalog.PHASES, phase=phase)) for name, phase in _NAMES.items()},
            "delivery": _times(catalog.DELIVERY, _sum(sums, catalog.DELIVERY)),
            "total": _times(catalog.DURATION, _sum(sums, catalog.DURATION)),
        },
        "provider": {
            "calls": calls,
            "errors": _count(sums, catalog.CALL_ERRORS),
            "rateLimited": _count(sums, catalog.RATE_LIMITS),
            "costUsd": round(_sum(sums, catalog.COST).total, 6),
        },
        "webhooks": {
            "sent": _count(sums, catalog.ATTEMPTS),
            "delivered": _count(sums, catalog.ATTEMPTS, outcome="delivered"),
            "retried": _count(sums, catalog.ATTEMPTS, outcome="failed"),
            "failed": _count(sums, catalog.DELIVERIES_DEAD),
        },
    }


def _sum(sums: Sums, metric: Metric, **labels: str) -> Cell:
    whole = Cell()
    for key, cell in sums.items():
        if key.name == metric.name and labels.items() <= key.labels().items():
            whole.merge(cell)
    return whole


def _count(sums: Sums, metric: Metric, **labels: str) -> int:
    return _sum(sums, metric, **labels).count


def _times(metric: Metric, cell: Cell) -> dict[str, Any]:
    """How often, on average, and the 95th percentile as the buckets show it."""
    p95 = quantile(metric, cell, 0.95)
    return {
        "count": cell.count,
        "average": round(cell.total / cell.count, 3) if cell.count else None,
        "p95": None if p95 is None else round(p95, 3),
    }


def quantile(metric: Metric, cell: Cell, share: float) -> float | None:
    """The value below which a share of the observations lies, even spread within a bucket assumed; None without any.

    Above the last bound that bound is returned, as Prometheus' histogram_quantile does.
    """
    rank, below, lower = share * sum(cell.buckets.values()), 0, 0.0
    if rank == 0:
        return None
    for upper in metric.bounds:
        count = cell.buckets.get(text_of(upper), 0)
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return lower
