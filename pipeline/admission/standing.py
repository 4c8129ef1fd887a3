"""Standing: why a waiting job waits now, and where it stands in line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """What keeps a job waiting; of several the first of this list, from the widest to its own."""

    SERVICE_PAUSED = "service_paused"
    LANE_PAUSED = "lane_paused"
    USER_PAUSED = "user_paused"
    SPEND = "spend"
    USER_FULL = "user_full"
    LANE_PROBING = "lane_probing"
    LANE_FULL = "lane_full"
    MINUTE_USED = "minute_used"
    BEHIND = "behind"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a waiting job stands.

    Attributes:
        lane: the provider's lane in which it waits.
        position: its place in the fair order among all that may start, from 1; None where it may not start whoever
            goes before it (`user_paused`, `user_full`, `spend`).
        exact: False if it is at least `position`: it was not counted further.
        retry_at: when what keeps it ends by itself, in the database's milliseconds; None if that hangs on others' work.
        detail: a pause's reason, or which money is used up, in words.
        lane_in_flight, lane_places: generations under way in the lane, and how many may be.
        per_minute: calls that may begin in a minute, None without such a bound.
        user_in_flight: of its user in this lane, as the order counts them.
        user_total, user_places: of its user over all lanes, and how many may be; None without a cap.
        ahead: of its user's own, how many wait before it in this lane.
        weight: its user's.
    """

    reason: Why
    lane: str
    position: int | None = None
    exact: bool = True
    retry_at: int | None = None
    detail: str | None = None
    lane_in_flight: int = 0
    lane_places: int = 0
    per_minute: int | None = None
    user_in_flight: int = 0
    user_total: int = 0
    user_places: int | None = None
    ahead: int = 0
    weight: float = 1.0
