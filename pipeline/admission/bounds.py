"""Bounds: how much may be under way in a lane at once, and how often it may be called. Counted from rows while the
lane's row is held, never kept as a counter that could drift.

A job that is admitted and has not paid yet counts as a call to come. So what T1 turns into a submission was counted
before, and the calls of any minute stay within the rate without a lock at T1; only what comes again to the submit step
without passing admission must ask there (see `gate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.db import Row, Tx

MINUTE_MS = 60_000
UNCLEAR_SECONDS = 1200.0
RESTS = 4
"""After such a look there is none for so many times as long."""


@dataclass(slots=True)
class Memory:
    """What one process remembers of its looks at lanes; it may be forgotten at any time.

    Attributes:
        rests: until when a lane is not looked at, in the database's milliseconds.
    """

    rests: dict[str, int] = field(default_factory=dict)
    _looks: dict[str, tuple[int, int]] = field(default_factory=dict)

    def rest(self, lane: str, now: int, took_ms: float) -> None:
        """A look at a lane that read every user took so long, and found fewer than there are places for."""
        self.rests[lane] = now + int(took_ms * RESTS)

    def first_look(self, lane: str, afresh: int) -> int:
        """The number of the look to begin with: the one that sufficed before, or after `afresh` times the first."""
        number, times = self._looks.get(lane, (0, 0))
        if times < afresh:
            return number
        self._looks[lane] = (number, 0)
        return 0

    def sufficed(self, lane: str, number: int) -> None:
        """This look at a lane did."""
        before, times = self._looks.get(lane, (0, 0))
        self._looks[lane] = (number, times + 1 if number == before else 0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of each lane may be under way.

    Args:
        max_in_flight: generations in flight in any lane that has no number of its own.
        in_flight: numbers of single lanes, by name.
        per_minute: paid calls that may begin in any 60 seconds, by lane; lanes that are not named have no such bound.
        user: generations of one user in flight over all lanes, where nothing else is set for him; None is no bound.
        memory: what one process remembers of its looks.
        unclear_seconds: so long after its intent a call of unknown outcome may still be at work at its provider.
    """

    max_in_flight: int
    in_flight: Mapping[str, int] = field(default_factory=dict)
    per_minute: Mapping[str, int] = field(default_factory=dict)
    unclear_seconds: float = UNCLEAR_SECONDS
    user: int | None = None
    memory: Memory = field(default_factory=Memory, compare=False)

    def unclear_since(self, now: int) -> int:
        """Calls of unknown outcome that were made after this may still be at work; in milliseconds."""
        return now - int(self.unclear_seconds * 1000)

    def of(self, lane: Row) -> int:
        """How many generations of a lane may be in flight; what stands in its row goes first."""
        own = lane["max_in_flight"]
        return self.in_flight.get(lane["name"], self.max_in_flight) if own is None else int(own)


_OF_STATUS = "SELECT count(*) FROM job WHERE lane = :lane AND {status} AND step IN ('submit', 'poll', 'store')"
_AT_WORK = ("outcome = 'unknown' AND intended_at > :since", "outcome = 'abandoned' AND intended_at > :since")
"""Calls that may be at work although nobody knows: whoever gave one up has not stopped it."""
_UNCLEAR = " + ".join(f"(SELECT count(*) FROM submission WHERE {each} AND provider = :provider)" for each in _AT_WORK)
_ANSWERED = (
    "{status} AND step IN ('resolve', 'held') AND EXISTS"
    " (SELECT 1 FROM submission s WHERE s.generation_id = job.subject_id AND s.outcome = 'accepted')"
)
"""Jobs whose call was answered late, after all: it is unclear no more, and no turn has gone on to poll it yet."""
_ANSWERED_OF = f"SELECT count(*) FROM job WHERE lane = :lane AND {_ANSWERED}"
_IN_FLIGHT = f"""
SELECT {_UNCLEAR} + ({_OF_STATUS.format(status="status = 'pending'")})
  + ({_OF_STATUS.format(status="status = 'processing'")}) + ({_ANSWERED_OF.format(status="status = 'pending'")})
  + ({_ANSWERED_OF.format(status="status = 'processing'")})"""


def in_flight(tx: Tx, lane: str, unclear_seconds: float = UNCLEAR_SECONDS) -> int:
    """How many generations of a lane the provider may have at work, or will soon.

    A call of unknown outcome counts until its work must be over, whoever waits for it by then, and not for ever.
    """
    since = tx.now - int(unclear_seconds * 1000)
    return int(tx.value(_IN_FLIGHT, {"provider": _provider(lane), "since": since, "lane": lane}))


_BY_USER = (
    *(f"SELECT tenant_id, coalesce(user_id, '') AS user_id FROM submission WHERE {each}" for each in _AT_WORK),
    *(
        "SELECT tenant_id, user_id FROM job WHERE " + _ANSWERED.format(status=each)
        for each in ("status = 'pending'", "status = 'processing'")
    ),
)
UNCLEAR_OF_USERS = f"""SELECT tenant_id, user_id, count(*) AS calls FROM (
  {" UNION ALL ".join(_BY_USER)}) AS unclear
  GROUP BY tenant_id, user_id"""
"""What may be at work besides the jobs in flight, by user: `tenant_id user_id calls`, since `:since`."""


def unclear_of_users(tx: Tx, bounds: Bounds) -> dict[tuple[str, str], int]:
    """How many calls of unknown outcome, and such as were answered just now, may still be at work, by tenant and
    user."""
    rows = tx.all(UNCLEAR_OF_USERS, {"since": bounds.unclear_since(tx.now)})
    return {(row["tenant_id"], row["user_id"]): int(row["calls"]) for row in rows}


_CALLS = "SELECT count(*) FROM submission WHERE provider = :provider AND intended_at > :since"
_TO_CALL = """
SELECT count(*) FROM job WHERE {status} AND step = 'submit' AND lane = :lane AND NOT EXISTS (SELECT 1 FROM submission s
  WHERE s.generation_id = job.subject_id AND s.outcome IN ('intended', 'accepted', 'unknown'))"""
_USED = f"""
SELECT ({_CALLS}) + ({_TO_CALL.format(status="status = 'pending'")})
  + ({_TO_CALL.format(status="status = 'processing'")})"""
"""One statement, so that a call which begins meanwhile is seen as the one or the other."""


def calls(tx: Tx, lane: str) -> int:
    """How many paid calls began in the last 60 seconds."""
    return int(tx.value(_CALLS, _window(tx, lane)))


def used(tx: Tx, lane: str) -> int:
    """The calls of the last 60 seconds, and those that were admitted and are to come."""
    return int(tx.value(_USED, _window(tx, lane) | {"lane": lane}))


def next_call(tx: Tx, lane: str, per_minute: int) -> int | None:
    """When a lane whose minute is used up may be called again, in the database's milliseconds.

    None if it may be now, or if that hangs on calls that have not begun.
    """
    over = used(tx, lane) - per_minute
    if over < 0:
        return None
    begun = tx.value(
        "SELECT intended_at FROM submission WHERE provider = :provider AND intended_at > :since"
        " ORDER BY intended_at LIMIT 1 OFFSET :over",
        _window(tx, lane) | {"over": over},
    )
    return None if begun is None else int(begun) + MINUTE_MS


_AT_SUBMIT = """
SELECT (SELECT count(*) FROM job WHERE status = 'pending' AND step = 'submit' AND lane = :lane
    AND scheduled_for <= :now)
  + (SELECT count(*) FROM job WHERE status = 'processing' AND step = 'submit' AND lane = :lane)"""


def at_submit(tx: Tx, lane: str) -> int:
    """How many jobs of a lane call its provider just now, or are due to."""
    return int(tx.value(_AT_SUBMIT, {"lane": lane, "now": tx.now}))


def room(tx: Tx, lane: Row, bounds: Bounds) -> int:
    """How many more may start in an open lane whose row is held; one at a time while it is probed."""
    name = lane["name"]
    free = bounds.of(lane) - in_flight(tx, name, bounds.unclear_seconds)
    if lane["probing"]:
        free = min(free, 1 - at_submit(tx, name))
    if free > 0 and name in bounds.per_minute:
        free = min(free, bounds.per_minute[name] - used(tx, name))
    return max(0, free)


def _window(tx: Tx, lane: str) -> dict[str, object]:
    return {"provider": _provider(lane), "since": tx.now - MINUTE_MS}


def _provider(lane: str) -> str:
    return lane.partition(":")[2]
