"""Lanes: the only writer of `lane`. Each is the road to one provider, and may be closed for a while."""

from __future__ import annotations

import logging

from pipeline.db import Row, Tx

EVERYTHING = "*"
"""The lane whose pause closes all others: no generation starts, what runs goes on, deliveries too."""


def provider_lane(provider: str) -> str:
    """The lane that all generations of one provider share."""
    return f"provider:{provider}"


def hold_lane(tx: Tx, name: str) -> Row:
    """The lane's row, made if it is new and held until the transaction ends."""
    tx.run(
        "INSERT INTO lane (name, unknown_streak) VALUES (:name, 0) ON CONFLICT DO NOTHING",
        {"name": name},
    )
    row = tx.one(f"SELECT * FROM lane WHERE name = :name{tx.for_update}", {"name": name})
    assert row is not None
    return row


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
