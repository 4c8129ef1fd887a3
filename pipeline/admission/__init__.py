"""Admission: who starts next, and how many. It alone moves jobs from `waiting` to `pending`; deliveries are never
waiting, but of each endpoint only so many are claimed.

::

    starting     who is next
    bounds       how much may be under way at once
    funding      is there money for it today
    probes       who is sent first where it was closed, and whose refusals are his own
    lanes        the road to one provider or endpoint: open, closed, and why
    receivers    how many deliveries may be sent to each endpoint
"""

from pipeline.admission.bounds import Bounds, calls, in_flight
from pipeline.admission.funding import cover, unfunded
from pipeline.admission.lanes import (
    EVERYTHING,
    MAX_PAUSE,
    UNKNOWN_LIMIT,
    Closed,
    closed,
    forget_pause,
    hold_lane,
    is_paused,
    lanes,
    note_answer,
    note_poll_refusal,
    note_refusal,
    note_unknown,
    pause,
    provider_lane,
    resume,
)
from pipeline.admission.probes import own_refusals
from pipeline.admission.receivers import IN_FLIGHT, Rooms, rooms
from pipeline.admission.starting import HEAD_START_MS, LOWEST_PRIORITY, admit, gate, next_opening, sort_at

__all__ = [
    "EVERYTHING",
    "HEAD_START_MS",
    "IN_FLIGHT",
    "LOWEST_PRIORITY",
    "MAX_PAUSE",
    "UNKNOWN_LIMIT",
    "Bounds",
    "Closed",
    "Rooms",
    "admit",
    "calls",
    "closed",
    "cover",
    "forget_pause",
    "gate",
    "hold_lane",
    "in_flight",
    "is_paused",
    "lanes",
    "next_opening",
    "note_answer",
    "note_poll_refusal",
    "note_refusal",
    "note_unknown",
    "own_refusals",
    "pause",
    "provider_lane",
    "resume",
    "rooms",
    "sort_at",
    "unfunded",
]
