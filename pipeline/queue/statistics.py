"""What is waiting, under way and dead, counted."""

from __future__ import annotations

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobKind, Step

_LIVE = {
    "waiting": "SELECT lane, '{submit}' AS step, count(*) AS jobs, min(sort_at) AS oldest_sort,"
    " NULL AS oldest_due FROM job WHERE status = 'waiting'{of} GROUP BY lane",
    "pending": "SELECT lane, step, count(*) AS jobs, NULL AS oldest_sort, min(scheduled_for) AS oldest_due"
    " FROM job WHERE status = 'pending'{of} GROUP BY step, lane",
    "processing": "SELECT lane, step, count(*) AS jobs, NULL AS oldest_sort, NULL AS oldest_due"
    " FROM job WHERE status = 'processing'{of} GROUP BY step, lane",
    "dead": "SELECT lane, step, count(*) AS jobs, NULL AS oldest_sort, NULL AS oldest_due"
    " FROM job WHERE status = 'dead'{of} GROUP BY step, lane",
}
"""Each is answered by the index of its status alone, without the rows, unless it is for one tenant."""

_KIND = {Step.DELIVER: JobKind.DELIVERY, Step.RECOVER: JobKind.RECOVERY}
"""Whatever is not theirs is a step of a generation."""

IN_LINE = 500


def stats(tx: Tx, tenant: str | None = None) -> list[Row]:
    """Counts of live and dead jobs by kind, status, step and lane, of all or of one tenant.

    `oldest_sort` is the first place in line of what waits, `oldest_due` when the first of what is pending comes due.
    Whatever waits for admission is to be submitted; deliveries and recoveries have steps of their own.
    """
    of = "" if tenant is None else " AND tenant_id = :tenant"
    return [
        row | {"status": status, "kind": _KIND.get(row["step"], JobKind.GENERATION)}
        for status, sql in _LIVE.items()
        for row in tx.all(sql.format(of=of, submit=Step.SUBMIT), {"tenant": tenant} if tenant is not None else {})
    ]


def first_in_line(tx: Tx, lane: str, tenant: str | None = None) -> list[str]:
    """The subjects of the first IN_LINE jobs that wait in a lane. Who waits longest is among them, unless that many of
    a higher priority came within its head start."""
    of = "" if tenant is None else " AND tenant_id = :tenant"
    rows = tx.all(
        f"SELECT subject_id FROM job WHERE status = 'waiting' AND lane = :lane{of}"
        f" ORDER BY sort_at, id LIMIT {IN_LINE}",
        {"lane": lane} | ({"tenant": tenant} if tenant is not None else {}),
    )
    return [row["subject_id"] for row in rows]
