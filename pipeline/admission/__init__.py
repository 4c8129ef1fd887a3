"""Admission: who starts next, and how many. It alone moves jobs from `waiting` to `pending`; deliveries do not pass
here.

::

    starting     who is next
    bounds       how much may be under way at once
    lanes        the road to one provider: open, closed, and why
"""

from pipeline.admission.bounds import in_flight
from pipeline.admission.lanes import (
    EVERYTHING,
    UNKNOWN_LIMIT,
    hold_lane,
    is_paused,
    lanes,
    note_answer,
    note_unknown,
    pause,
    provider_lane,
    resume,
)
from pipeline.admission.starting import HEAD_START_MS, LOWEST_PRIORITY, admit, next_opening, sort_at

__all__ = [
    "EVERYTHING",
    "HEAD_START_MS",
    "LOWEST_PRIORITY",
    "UNKNOWN_LIMIT",
    "admit",
    "hold_lane",
    "in_flight",
    "is_paused",
    "lanes",
    "next_opening",
    "note_answer",
    "note_unknown",
    "pause",
    "provider_lane",
    "resume",
    "sort_at",
]
