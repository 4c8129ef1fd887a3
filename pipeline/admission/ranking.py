"""Ranking: the fair order, as a formula. Pure.

A user's next job stands where it arrived; each of his jobs before it, under way or waiting, puts it one quantum back.
So who asks for much waits behind who asks for little, and priority still moves one forward.
"""

from __future__ import annotations

HEAD_START_MS = 60_000
LOWEST_PRIORITY = 10
QUANTUM_MS = 60_000
"""How far each of a user's jobs stands behind the one before it, in milliseconds, at a weight of 1."""
USUAL_WEIGHT = 1.0


def sort_at(created_at: int, priority: int) -> int:
    """The place in line: one minute of head start per step of priority (1 is highest, 10 lowest)."""
    return created_at - (LOWEST_PRIORITY - priority) * HEAD_START_MS


def rank(sort_at: int, *, in_flight: int, position: int, weight: float = USUAL_WEIGHT) -> float:
    """Where a waiting job stands in its lane, in milliseconds; the least is next, equals go by `sort_at`, then `id`.

    Args:
        in_flight: how many jobs of the same user are under way in this lane.
        position: its place among the user's own waiting jobs in this lane, from 1.
        weight: of two users who both wait, one of weight 2 gets two places for each of the other's.
    """
    return sort_at + QUANTUM_MS * (in_flight + position - 1) / weight


def overtaken_until(created_at: int, priority: int, *, ahead: int, weight: float = USUAL_WEIGHT) -> float:
    """No job of the same lane that is created later than this, in milliseconds, starts before it.

    `ahead` is how many jobs of its own user are under way in the lane, or wait there before it.
    """
    head_starts = (LOWEST_PRIORITY - 1) * HEAD_START_MS - (LOWEST_PRIORITY - priority) * HEAD_START_MS
    return created_at + head_starts + QUANTUM_MS * ahead / weight
