"""Bounds: how much may be under way in a lane at once. Counted from rows while the lane's row is held, never kept as a
counter that could drift."""

from __future__ import annotations

from pipeline.db import Tx
from pipeline.lifecycle import JobStatus

_IN_FLIGHT = """
SELECT count(*) FROM job WHERE lane = :lane AND {status} AND step IN ('submit', 'resolve', 'poll', 'store')"""


def in_flight(tx: Tx, lane: str) -> int:
    """How many admitted generations have not ended; those that wait for a person are not counted."""
    return sum(
        int(tx.value(_IN_FLIGHT.format(status=f"status = '{status}'"), {"lane": lane}))
        for status in (JobStatus.PENDING, JobStatus.PROCESSING)
    )
