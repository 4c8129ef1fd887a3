"""Admission: who starts next, and how many. It alone moves jobs from `waiting` to `pending`; deliveries are never
waiting, but of each endpoint only so many are claimed.

::

    starting     may somebody start, and how many
    line         who is next, for all roads
    ranking      the fair order among users, as a formula
    standing     why a job waits, and where it stands
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
    hand_paused,
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
    user_lane,
)
from pipeline.admission.probes import own_refusals
from pipeline.admission.ranking import HEAD_START_MS, LOWEST_PRIORITY, QUANTUM_MS, overtaken_until, rank, sort_at
from pipeline.admission.receivers import IN_FLIGHT, Rooms, rooms
from pipeline.admission.standing import Standing, Why, standing
from pipeline.admission.starting import admit, gate, next_opening

__all__ = [
    "EVERYTHING",
    "HEAD_START_MS",
    "IN_FLIGHT",
    "LOWEST_PRIORITY",
    "MAX_PAUSE",
    "QUANTUM_MS",
    "UNKNOWN_LIMIT",
    "Bounds",
    "Closed",
    "Rooms",
    "Standing",
    "Why",
    "admit",
    "calls",
    "closed",
    "cover",
    "forget_pause",
    "gate",
    "hand_paused",
    "hold_lane",
    "in_flight",
    "is_paused",
    "lanes",
    "next_opening",
    "note_answer",
    "note_poll_refusal",
    "note_refusal",
    "note_unknown",
    "overtaken_until",
    "own_refusals",
    "pause",
    "provider_lane",
    "rank",
    "resume",
    "rooms",
    "sort_at",
    "standing",
    "unfunded",
    "user_lane",
]
