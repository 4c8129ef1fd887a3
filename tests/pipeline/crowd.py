"""A crowd: a database with as much in it as somebody would have after a year, made by a few statements."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.db import Tx

LANE = "provider:a"

_NUMBERS = """
WITH RECURSIVE ten(d) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT d + 1 FROM ten WHERE d < 9),
numbers(n) AS (
  SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d
  FROM ten a, ten b, ten c, ten e, ten f, ten g, (SELECT 1) one
)
"""
_JOBS = """
INSERT INTO job (kind, subject_id, tenant_id, user_id, lane, status, step, sort_at, scheduled_for, attempts, polls,
  claims_unrecorded, fence, wake_seq, cancel_requested, fallback, unfunded, was_dead, finished_at)
{numbers}
SELECT 'generation', {subject}, 'default', {user}, :lane, :status, :step, {at}, :at, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  {finished} FROM numbers WHERE n < :count ORDER BY n"""
_GENERATIONS = """
INSERT INTO generation (id, tenant_id, user_id, request_hash, prompt, parameters, labels, provider, model,
  estimate_micros, priority, status, stage, run, sequence, created_at, updated_at, reserved_micros, extra, chain,
  candidate)
{numbers}
SELECT {subject}, 'default', {user}, '', 'a fox', '{{}}', '{{}}', 'a', 'm', 1000, 5, :status, NULL, 1, 0, :at, :at, 0,
  '{{}}', '[]', 0 FROM numbers WHERE n < :count ORDER BY n"""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many there are of each.

    Args:
        hog: this part of what waits is of one user, `hog`; the others share the rest evenly.
        burst: all came within a second, the hog's first; otherwise within an hour, mixed.
        busy: of every user as much is in flight as `in_flight` gives; otherwise of users who wait for nothing.
    """

    waiting: int
    users: int
    finished: int = 0
    in_flight: int = 0
    hog: float = 0.0
    burst: bool = False
    busy: bool = True
    generations: bool = False

    def fill(self, tx: Tx) -> None:
        """Put it into an empty database; what the planner is to know of it says `settle`."""
        hogs = int(self.waiting * self.hog)
        name = f"'user' || ((n * 7919) % {self.users})" if self.users > 1 else "''"
        whose = f"CASE WHEN n < {hogs} THEN 'hog' ELSE {name} END" if hogs else name
        spread = "n / 100" if self.burst else "(n * 12347) % 3600000"
        self._add(tx, "w", self.waiting, user=whose, status="waiting", step="submit", at=f":at - 3600000 + {spread}")
        busy = name if self.busy else "'busy' || n"
        self._add(tx, "f", self.in_flight, user=busy, status="pending", step="poll", at=":at")
        self._add(tx, "d", self.finished, user=name, status="done", step="store", at=":at", finished=":at + n")

    def _add(self, tx: Tx, mark: str, count: int, *, user: str, status: str, step: str, at: str, **more: str) -> None:
        if not count:
            return
        words = {
            "numbers": _NUMBERS,
            "subject": f"'gen_{mark}' || n",
            "user": user,
            "at": at,
            "finished": "NULL",
        } | more
        values = {"count": count, "at": tx.now, "status": status}
        tx.run(_JOBS.format(**words), values | {"lane": LANE, "step": step})
        if self.generations:
            short = {name: words[name] for name in ("numbers", "subject", "user")}
            tx.run(_GENERATIONS.format(**short), values | {"status": "completed" if mark == "d" else "queued"})


def settle(tx: Tx) -> None:
    """Tell the planner what there is."""
    tx.run("ANALYZE")
