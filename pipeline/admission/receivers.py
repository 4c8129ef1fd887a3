"""Receivers: how many deliveries may be sent to each of them now. Counted from rows, so that the numbers hold across
processes and nothing can drift.

The lane of an endpoint that is paused is open to nobody, whatever waits in it: it costs one row of this look. One that
is probed is sent one delivery at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.db import Row, Tx

IN_FLIGHT = 8
"""Deliveries under way at once to an endpoint that has no number of its own."""
MINUTE_MS = 60_000
SOON_MS = 10
"""After so long one looks again who found another process choosing just now."""
_CHOOSING = 0x6461696C
"""The lock under which PostgreSQL's processes choose one after the other."""

_DUE = """
WITH RECURSIVE lanes(lane) AS (
  SELECT min(lane) FROM job WHERE status = 'pending' AND step = 'deliver'
  UNION ALL
  SELECT (SELECT min(j.lane) FROM job j WHERE j.status = 'pending' AND j.step = 'deliver' AND j.lane > lanes.lane)
  FROM lanes WHERE lanes.lane IS NOT NULL
), due(lane) AS (
  SELECT lane FROM lanes WHERE lane IS NOT NULL AND EXISTS (SELECT 1 FROM job j WHERE j.status = 'pending'
    AND j.step = 'deliver' AND j.lane = lanes.lane AND j.scheduled_for <= :now)
  UNION
  SELECT lane FROM job WHERE status = 'processing' AND step = 'deliver' AND locked_until <= :now
)
SELECT due.lane, (SELECT a.status FROM webhook_attempt a WHERE a.lane = due.lane ORDER BY a.at DESC LIMIT 1) AS last,
  coalesce(l.probing, 0) AS probing, coalesce(l.max_in_flight, e.max_in_flight) AS most,
  e.rate_per_minute AS rate, (SELECT count(*) FROM job p WHERE p.status = 'processing' AND p.step = 'deliver'
    AND p.lane = due.lane AND p.locked_until > :now) AS running
FROM due LEFT JOIN lane l ON l.name = due.lane LEFT JOIN webhook_endpoint e ON e.id = substr(due.lane, 10)
WHERE coalesce(l.paused_until, 0) <= :now"""

_SENT = "SELECT count(*) FROM webhook_attempt WHERE lane = :lane AND at > :since"
_FREED = "SELECT at FROM webhook_attempt WHERE lane = :lane AND at > :since ORDER BY at LIMIT 1 OFFSET :over"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What may be sent now.

    Attributes:
        free: so many more deliveries, by lane; lanes without a place are absent.
        again: when to look again although nothing tells, in the database's milliseconds, or None.
        proven: lanes whose last attempt was taken.
    """

    free: Mapping[str, int]
    again: int | None = None
    proven: frozenset[str] = frozenset()


def rooms(tx: Tx, *, most: int = IN_FLIGHT) -> Rooms:
    """The places that are free in the lanes where something is due.

    `most` is for endpoints without a number of their own. Whoever asks holds the answer alone until the transaction
    ends; who comes meanwhile is told when to come again.
    """
    if tx.postgres and not tx.value("SELECT pg_try_advisory_xact_lock(:lock)", {"lock": _CHOOSING}):
        return Rooms({}, tx.now + SOON_MS)
    free: dict[str, int] = {}
    proven: set[str] = set()
    times: list[int] = []
    for row in tx.all(_DUE, {"now": tx.now}):
        places = _places(row, most)
        if row["rate"] is not None and places > 0:
            left, when = _of_rate(tx, row)
            places = min(places, left)
            times += [] if when is None else [when]
        if places > 0:
            free[row["lane"]] = places
            if 200 <= (row["last"] or 0) <= 299:
                proven.add(row["lane"])
    return Rooms(free, min(times, default=None), frozenset(proven))


def _places(row: Row, most: int) -> int:
    allowed = 1 if row["probing"] else most if row["most"] is None else int(row["most"])
    return allowed - int(row["running"])


def _of_rate(tx: Tx, row: Row) -> tuple[int, int | None]:
    """How many more may begin within the minute, and when the next may if none.

    An attempt counts from its beginning to a minute after its end: what is under way is seen in its job, what has
    ended in its record.
    """
    window = {"lane": row["lane"], "since": tx.now - MINUTE_MS}
    over = int(tx.value(_SENT, window)) + int(row["running"]) - int(row["rate"])
    if over < 0:
        return -over, None
    freed = tx.value(_FREED, window | {"over": over})
    return 0, None if freed is None else int(freed) + MINUTE_MS
