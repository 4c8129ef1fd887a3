"""Admission: who starts next. It alone moves jobs from `waiting` to `pending`; deliveries do not pass here.

Order: by `sort_at`, which is the time of arrival minus a head start for priority. So a high priority goes first, and
nothing that arrives later than the largest head start can overtake: whatever waits is taken in the end. What is in
flight is counted
from rows while the lane's row is held, never kept as a counter that could drift.
"""

from __future__ import annotations

import logging

from pipeline.db import Row, Tx
from pipeline.lifecycle import JobStatus

EVERYTHING = "*"
"""The lane whose pause closes all others: no generation starts, what runs goes on, deliveries too."""

HEAD_START_MS = 60_000
LOWEST_PRIORITY = 10


def provider_lane(provider: str) -> str:
    """The lane that all generations of one provider share."""
    return f"provider:{provider}"


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

_IN_FLIGHT = """
SELECT count(*) FROM job WHERE lane = :lane AND {status} AND step IN ('submit', 'resolve', 'poll', 'store')"""


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


def hold_lane(tx: Tx, name: str) -> Row:
    """The lane's row, made if it is new and held until the transaction ends."""
    tx.run(
        "INSERT INTO lane (name, unknown_streak) VALUES (:name, 0) ON CONFLICT DO NOTHING",
        {"name": name},
    )
    row = tx.one(f"SELECT * FROM lane WHERE name = :name{tx.for_update}", {"name": name})
    assert row is not None
    return row


def in_flight(tx: Tx, lane: str) -> int:
    """How many admitted generations have not ended; those that wait for a person are not counted."""
    return sum(
        int(tx.value(_IN_FLIGHT.format(status=f"status = '{status}'"), {"lane": lane}))
        for status in (JobStatus.PENDING, JobStatus.PROCESSING)
    )


def pause(tx: Tx, lane: str, *, seconds: float, reason: str) -> None:
    """Close a lane for a while; a longer pause is never cut short."""
    hold_lane(tx, lane)
    tx.run(
        "UPDATE lane SET paused_until = :until, paused_reason = :reason"
        " WHERE name = :name AND (paused_until IS NULL OR paused_until < :until)",
        {"name": lane, "until": tx.now + int(seconds * 1000), "reason": reason[:300]},
    )
    tx.emit(
        "lane.paused",
        level=logging.WARNING,
        lane=lane,
        kind=lane.partition(":")[0],
        seconds=round(seconds, 1),
        reason=reason[:300],
    )


def is_paused(tx: Tx, lane: str) -> bool:
    """Whether a lane is closed just now, by itself or with the whole service."""
    until = tx.value(
        "SELECT max(paused_until) FROM lane WHERE name = :name OR name = :everything",
        {"name": lane, "everything": EVERYTHING},
    )
    return until is not None and until > tx.now


def resume(tx: Tx, lane: str) -> bool:
    """Open a lane again, and forget its streak of unknown outcomes; False if it was open."""
    row = tx.one(f"SELECT paused_until FROM lane WHERE name = :name{tx.for_update}", {"name": lane})
    tx.run(
        "UPDATE lane SET paused_until = NULL, paused_reason = NULL, unknown_streak = 0 WHERE name = :name",
        {"name": lane},
    )
    if row is None or (row["paused_until"] or 0) <= tx.now:
        return False
    tx.emit("lane.resumed", lane=lane)
    return True


UNKNOWN_LIMIT = 3


def note_unknown(tx: Tx, lane: str, *, seconds: float) -> bool:
    """Count an unknown outcome; the third in a row closes the lane for a while. True if it did."""
    hold_lane(tx, lane)
    streak = int(
        tx.value(
            "UPDATE lane SET unknown_streak = unknown_streak + 1 WHERE name = :name RETURNING unknown_streak",
            {"name": lane},
        )
    )
    if streak < UNKNOWN_LIMIT:
        return False
    pause(tx, lane, seconds=seconds, reason=f"{streak} paid calls in a row ended without a clear answer")
    return True


def note_answer(tx: Tx, lane: str) -> None:
    """The provider answers clearly: the streak is over."""
    tx.run("UPDATE lane SET unknown_streak = 0 WHERE name = :name AND unknown_streak > 0", {"name": lane})


def lanes(tx: Tx) -> list[Row]:
    """Every lane and its pause, for people."""
    return tx.all("SELECT * FROM lane ORDER BY name")


def next_opening(tx: Tx) -> int | None:
    """When the next paused lane opens, in the database's milliseconds.

    Lanes that are merely full are left out: a place that becomes free wakes the worker by itself.
    """
    value = tx.value("SELECT min(paused_until) FROM lane WHERE paused_until > :now", {"now": tx.now})
    return None if value is None else int(value)
