"""The history of every generation, checked: one chain of fences, one end, one possibly-paid call at a time, no cap
exceeded. Read-only, and safe beside a running service: each batch is one snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.admission.bounds import UNCLEAR_SECONDS
from pipeline.db import Database, Tx
from pipeline.drill.rules import FOREVER, History, Row, Violation, violations

BATCH = 500

Interval = tuple[int, int]
"""From, and until before: milliseconds."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many calls may have been under way at once.

    Args:
        lanes: by the lane's name, such as `provider:mock`.
        per_user: of any one user, over all lanes; None for no bound.
        users: of single users, by `(tenant, user)`.
        unclear_seconds: so long a call of unknown outcome counts, as in `admission.Bounds`.
    """

    lanes: Mapping[str, int] = field(default_factory=dict)
    per_user: int | None = None
    users: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unclear_seconds: float = UNCLEAR_SECONDS


async def check(db: Database, caps: Caps | None = None, *, kept_since: int = 0) -> list[Violation]:
    """Read every generation, in batches, and list what must never be.

    Of what ended before `kept_since`, in the database's milliseconds, events may have been pruned.
    """
    found: list[Violation] = []
    calls = Calls(caps or Caps())
    after = ""
    while batch := await db.read(partial(read, after=after, limit=BATCH, kept_since=kept_since)):
        for history in batch:
            found += violations(history)
            calls.add(history)
        after = batch[-1].generation["id"]
    return found + calls.violations()


def read(tx: Tx, after: str, limit: int, kept_since: int = 0) -> list[History]:
    """The histories of the next generations behind the id `after`."""
    rows = tx.all(_GENERATIONS, {"after": after, "limit": limit})
    ids = {"ids": tx.of([row["id"] for row in rows])}
    jobs = _by(tx.all(_JOBS.format(among=tx.among), ids), "subject_id")
    submissions = _by(tx.all(_SUBMISSIONS.format(among=tx.among), ids), "generation_id")
    lines = _by(tx.all(_LINES.format(among=tx.among), ids), "generation_id")
    events = _by(tx.all(_EVENTS.format(among=tx.among), ids), "generation_id")
    return [
        History(
            row,
            next(iter(jobs[row["id"]]), None),
            submissions[row["id"]],
            lines[row["id"]],
            events[row["id"]],
            kept=(row["finished_at"] or FOREVER) >= kept_since,
        )
        for row in rows
    ]


def _by(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[column]].append(row)
    return grouped


_GENERATIONS = (
    "SELECT id, tenant_id, user_id, status, run, finished_at FROM generation WHERE id > :after ORDER BY id LIMIT :limit"
)
_JOBS = "SELECT subject_id, status, step, fence FROM job WHERE kind = 'generation' AND subject_id {among}"
_SUBMISSIONS = (
    "SELECT generation_id, tenant_id, user_id, run, provider, token, outcome, operation_id, billed, intended_at,"
    " answered_at, closed_at FROM submission WHERE generation_id {among} ORDER BY id"
)
_LINES = (
    "SELECT generation_id, run, at, event, detail, fence, worker FROM timeline WHERE generation_id {among} ORDER BY id"
)
_EVENTS = "SELECT generation_id, run, type, terminal, created_at FROM webhook_event WHERE generation_id {among}"


class Calls:
    """The calls of all generations as intervals, by lane and by user: from the intent to the end, as admission counts
    them."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._lanes: dict[str, list[Interval]] = defaultdict(list)
        self._users: dict[tuple[str, str], list[Interval]] = defaultdict(list)

    def add(self, history: History) -> None:
        """The calls of one generation; those of what has ended stop with its terminal event at the latest."""
        for row in history.submissions:
            if "." in row["token"]:
                continue
            lane, user = f"provider:{row['provider']}", (row["tenant_id"], row["user_id"] or "")
            interval = row["intended_at"], self._until(row, history.events)
            if lane in self._caps.lanes:
                self._lanes[lane].append(interval)
            if user[1] and self._cap_of(user) is not None:
                self._users[user].append(interval)

    def _until(self, row: Row, events: Sequence[Row]) -> int:
        ends = [event["created_at"] for event in events if event["terminal"] and event["run"] == row["run"]]
        ends.append(FOREVER if row["closed_at"] is None else row["closed_at"])
        unclear = row["intended_at"] + int(self._caps.unclear_seconds * 1000)
        if row["outcome"] in {"unknown", "abandoned", "rejected"} or (row["answered_at"] or 0) > unclear:
            ends.append(unclear)
        return int(min(ends))

    def _cap_of(self, user: tuple[str, str]) -> int | None:
        return self._caps.users.get(user, self._caps.per_user)

    def violations(self) -> list[Violation]:
        """The lanes and users of whom more was under way than may be."""
        lanes = [
            Violation("lane_over_cap", "", f"{most} at once in {lane} of {self._caps.lanes[lane]}, at {at}")
            for lane, intervals in self._lanes.items()
            for most, at in [peak(intervals)]
            if most > self._caps.lanes[lane]
        ]
        users = [
            Violation("user_over_cap", "", f"{most} at once of {tenant}/{user} of {cap}, at {at}")
            for (tenant, user), intervals in self._users.items()
            for (most, at), cap in [(peak(intervals), self._cap_of((tenant, user)))]
            if cap is not None and most > cap
        ]
        return lanes + users


def peak(intervals: Iterable[Interval]) -> tuple[int, int]:
    """How many were under way at once at most, and since when; (0, 0) of none. Pure."""
    real = (interval for interval in intervals if interval[0] < interval[1])
    changes = sorted(change for start, end in real for change in ((start, 1), (end, -1)))
    now = most = moment = 0
    for at, change in changes:
        now += change
        if now > most:
            most, moment = now, at
    return most, moment
