"""Lanes: the only writer of `lane`. Each is the road to one provider or endpoint, and may be closed for a while."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.lifecycle import Fault

EVERYTHING = "*"
"""The lane whose pause closes all others: no generation starts, what runs goes on, deliveries too."""

MAX_PAUSE = 900.0
"""Seconds that a provider's answers may close its lane, whatever they ask and however often they come; only LANE_PAUSE
may be longer."""
MAX_DOUBLINGS = 20
MAX_REASON = 300


def provider_lane(provider: str) -> str:
    """The lane that all generations of one provider share."""
    return f"provider:{provider}"


def user_lane(tenant: str, user: str | None) -> str:
    """The row that holds one user's share of all roads: `weight`, `max_in_flight`, `paused_until`. Requests that name
    nobody are one user of their tenant, without a name."""
    return f"user:{tenant}/{user or ''}"


def some_user_is_capped(tx: Tx) -> bool:
    """Whether any user has a bound of his own."""
    sql = "SELECT EXISTS (SELECT 1 FROM lane WHERE max_in_flight IS NOT NULL AND substr(name, 1, 5) = 'user:')"
    return bool(tx.value(sql))


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
    """Close a lane for a while, by hand; a longer pause is never cut short."""
    hold_lane(tx, lane)
    _close(tx, lane, seconds, reason)
    tx.run(
        "UPDATE lane SET waits_from = :until WHERE name = :name AND (waits_from IS NULL OR waits_from < :until)",
        {"name": lane, "until": tx.now + int(seconds * 1000)},
    )
    _tell_paused(tx, lane, seconds, reason)


HAND_PAUSED = f"""coalesce((SELECT max(l.waits_from) FROM lane l
  WHERE l.name IN ('{EVERYTHING}', {{lane}}, 'user:' || {{tenant}} || '/' || {{user}})), 0)"""
"""When the last pause by hand of what a job waits for ends or ended, in milliseconds, in SQL: nobody gives up in it."""


def hand_paused(tx: Tx, lane: str, tenant: str, user: str | None) -> int:
    """The same, of a job of this lane and user; 0 if there never was one."""
    sql = HAND_PAUSED.format(lane=":lane", tenant="CAST(:tenant AS TEXT)", user="CAST(:user AS TEXT)")
    return int(tx.value(f"SELECT {sql}", {"lane": lane, "tenant": tenant, "user": user or ""}))


def _close(tx: Tx, lane: str, seconds: float, reason: str) -> None:
    tx.run(
        "UPDATE lane SET paused_until = :until, paused_reason = :reason"
        " WHERE name = :name AND (paused_until IS NULL OR paused_until < :until)",
        {"name": lane, "until": tx.now + int(seconds * 1000), "reason": reason[:MAX_REASON]},
    )


def _tell_paused(tx: Tx, lane: str, seconds: float, reason: str) -> None:
    tx.emit(
        "lane.paused",
        level=logging.WARNING,
        lane=lane,
        kind=lane.partition(":")[0],
        seconds=round(seconds, 1),
        reason=reason[:MAX_REASON],
    )


def note_refusal(tx: Tx, lane: str, *, seconds: float, reason: str, longest: float = MAX_PAUSE) -> int:
    """The other side itself closes its lane, for everybody; afterwards it is probed, one call at a time.

    A probe that is refused closes it again, each time for twice as long, up to `longest` seconds. What else was under
    way when it was closed says nothing new, and can only ask for more time. Returns how often in a row it was closed
    by now; 0 if it was closed already.
    """
    row = hold_lane(tx, lane)
    if _is_closed(row, tx.now):
        _close(tx, lane, seconds, reason)
        tx.run("UPDATE lane SET probing = 1 WHERE name = :name AND probing = 0", {"name": lane})
        return 0
    longer = min(longest, seconds * 2.0 ** min(row["probing"], MAX_DOUBLINGS))
    seconds = max(seconds, longer)
    _close(tx, lane, seconds, reason)
    tx.run("UPDATE lane SET probing = probing + 1 WHERE name = :name", {"name": lane})
    _tell_paused(tx, lane, seconds, reason)
    return int(row["probing"]) + 1


def note_poll_refusal(tx: Tx, lane: str, *, seconds: float, reason: str) -> None:
    """A question about work that was taken was refused for the key.

    That may be so of this one work alone. So it closes a lane that is open, for `seconds`, and nothing more: not one
    that is closed or probed, and none whose provider took work within that time.
    """
    row = hold_lane(tx, lane)
    if _is_closed(row, tx.now) or row["probing"] or _took_lately(tx, lane, seconds):
        return
    note_refusal(tx, lane, seconds=seconds, reason=reason)


LONGEST_CALL_MS = 600_000


def _took_lately(tx: Tx, lane: str, seconds: float) -> bool:
    since = tx.now - int(seconds * 1000)
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM submission WHERE provider = :provider AND intended_at > :begun"
            " AND operation_id IS NOT NULL AND answered_at > :since)",
            {"provider": lane.partition(":")[2], "begun": since - LONGEST_CALL_MS, "since": since},
        )
    )


def _is_closed(row: Row, now: int) -> bool:
    return (row["paused_until"] or 0) > now


@dataclass(frozen=True, slots=True)
class Closed:
    """Why nothing may be sent to a provider just now. `alone`: its own lane is closed, so that others may be open."""

    fault: Fault
    alone: bool = False


def closed(tx: Tx, lane: str) -> Closed | None:
    """Whether a lane is closed just now, by itself or with the whole service, and why."""
    rows = tx.all(
        "SELECT * FROM lane WHERE (name = :name OR name = :everything) AND paused_until > :now ORDER BY name",
        {"name": lane, "everything": EVERYTHING, "now": tx.now},
    )
    if not rows:
        return None
    shut, alone = rows[0], all(row["name"] != EVERYTHING for row in rows)
    what = "the provider's lane" if alone else "the whole service"
    return Closed(Fault("lane_paused", f"{what} is paused: {shut['paused_reason']}"), alone)


def is_paused(tx: Tx, lane: str) -> bool:
    """Whether a lane is closed just now, by itself or with the whole service."""
    return closed(tx, lane) is not None


def resume(tx: Tx, lane: str) -> bool:
    """Open a lane again, and forget its streak of unknown outcomes and that it was to be probed; False if it was
    open."""
    row = tx.one(f"SELECT paused_until FROM lane WHERE name = :name{tx.for_update}", {"name": lane})
    forget_pause(tx, lane)
    if row is None or not _is_closed(row, tx.now):
        return False
    tx.emit("lane.resumed", lane=lane)
    return True


def forget_pause(tx: Tx, lane: str) -> None:
    """The same without a word: for an endpoint that is switched off, to which nothing is sent."""
    tx.run(
        "UPDATE lane SET paused_until = NULL, paused_reason = NULL, unknown_streak = 0, probing = 0,"
        " waits_from = CASE WHEN waits_from > :now THEN :now ELSE waits_from END WHERE name = :name",
        {"name": lane, "now": tx.now},
    )


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
    note_refusal(tx, lane, seconds=seconds, reason=f"{streak} paid calls in a row ended without a clear answer")
    return True


def note_answer(tx: Tx, lane: str, *, well: bool = False) -> bool:
    """The other side answers clearly: the streak is over.

    `well` says that it works: it took the work, or refused it for a fault of the request. Then it is probed no longer;
    but not by an answer to what was under way when the lane was closed. True if this ended the probing.
    """
    row = tx.one(
        "UPDATE lane SET unknown_streak = 0 WHERE name = :name AND (unknown_streak > 0 OR probing > 0) RETURNING *",
        {"name": lane},
    )
    if row is None or not well or not row["probing"] or _is_closed(row, tx.now):
        return False
    tx.run("UPDATE lane SET probing = 0, paused_until = NULL, paused_reason = NULL WHERE name = :name", {"name": lane})
    tx.emit("lane.resumed", lane=lane, probed=row["probing"])
    return True


def lanes(tx: Tx) -> list[Row]:
    """Every lane and its pause, for people."""
    return tx.all("SELECT * FROM lane ORDER BY name")
