"""Starting: who is next. It alone moves jobs from `waiting` to `pending`; deliveries do not pass here.

Order: by `sort_at`, which is the time of arrival minus a head start for priority. So a high priority goes first, and
nothing that arrives later than the largest head start can overtake: whatever waits is taken in the end.
"""

from __future__ import annotations

from pipeline.admission.bounds import in_flight
from pipeline.admission.lanes import EVERYTHING, hold_lane, is_paused
from pipeline.db import Tx

HEAD_START_MS = 60_000
LOWEST_PRIORITY = 10


def sort_at(created_at: int, priority: int) -> int:
    """The place in line: one minute of head start per step of priority (1 is highest, 10 lowest)."""
    return created_at - (LOWEST_PRIORITY - priority) * HEAD_START_MS


_WAITING_LANES = """
WITH RECURSIVE lanes(lane) AS (
  SELECT min(lane) FROM job WHERE status = 'waiting'
  UNION ALL
  SELECT (SELECT min(j.lane) FROM job j WHERE j.status = 'waiting' AND j.lane > lanes.lane)
  FROM lanes WHERE lanes.lane IS NOT NULL
)
SELECT lane FROM lanes WHERE lane IS NOT NULL"""


def admit(tx: Tx, *, limit: int, max_in_flight: int) -> int:
    """Start up to `limit` waiting jobs per lane, within the lane's bound, unless it is paused. Returns how many."""
    if is_paused(tx, EVERYTHING):
        return 0
    return sum(_admit_lane(tx, row["lane"], limit, max_in_flight) for row in tx.all(_WAITING_LANES))


def _admit_lane(tx: Tx, name: str, limit: int, max_in_flight: int) -> int:
    lane = hold_lane(tx, name)
    if (lane["paused_until"] or 0) > tx.now:
        return 0
    bound = max_in_flight if lane["max_in_flight"] is None else lane["max_in_flight"]
    free = bound - in_flight(tx, name)
    if free <= 0:
        return 0
    return tx.run(
        "UPDATE job SET status = 'pending', scheduled_for = :now WHERE status = 'waiting' AND id IN (SELECT id FROM job"
        " WHERE status = 'waiting' AND lane = :lane ORDER BY sort_at, id LIMIT :free)",
        {"now": tx.now, "lane": name, "free": min(limit, free)},
    )


def next_opening(tx: Tx) -> int | None:
    """When the next paused lane opens, in the database's milliseconds.

    Lanes that are merely full are left out: a place that becomes free wakes the worker by itself.
    """
    value = tx.value("SELECT min(paused_until) FROM lane WHERE paused_until > :now", {"now": tx.now})
    return None if value is None else int(value)
