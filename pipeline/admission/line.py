"""The line: who is next in a lane, in the fair order of `ranking`. All roads into starting ask here.

Who is next is decided among the heads of users, and then among the next jobs of the best of them. Which users that are
is looked up in ways that cost differently; each says itself whether its answer is exact, and the next is tried if not:

- step through all users by index: exact if there are few;
- the users of the jobs that arrived first: exact if the last that is to start stands before all that was not looked
  at, since nobody stands before the time at which he arrived.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from pipeline.admission.bounds import UNCLEAR_OF_USERS, Bounds
from pipeline.admission.ranking import QUANTUM_MS, rank
from pipeline.db import Row, Tx

IN_FLIGHT = "status <> 'waiting' AND finished_at IS NULL AND step IN ('submit', 'poll', 'store')"
"""As the index `job_in_flight` says it, word for word; else neither engine would use it."""
EVERYBODY = 1_000_000_000
MANY = 2_000
"""Users; to look at more takes long enough that it is not done without a pause."""


class How(Enum):
    """How users are looked up."""

    ALL = "by name"
    FIRST = "by arrival"


LOOKS = ((How.ALL, 64), (How.FIRST, 512), (How.FIRST, 2_048), (How.ALL, MANY), (How.ALL, EVERYBODY))
"""How users are looked up, and how many users or jobs that may read, the cheapest first; the last is always exact."""
AFRESH = 20
"""What sufficed the last time is tried first; after so many times the cheapest is."""


@dataclass(frozen=True, slots=True)
class Road:
    """Which of the waiting jobs `j` are asked for, in SQL, the values that it names, and SQLite's index for them in
    the order of arrival."""

    which: str = ""
    values: tuple[tuple[str, object], ...] = ()
    index: str = "job_waiting"


PLAIN = Road()
ELSEWHERE = Road(" AND j.fallback = 1", index="job_fallback")
"""Those that another provider could be asked for."""


@dataclass(frozen=True, slots=True)
class Line:
    """The next jobs of a lane, the first first: rows with `id`, `subject_id`, `tenant_id`, `user_id`, `sort_at`.

    `costly` says that very many users had to be looked at to know it.
    """

    jobs: list[Row]
    costly: bool = False


def line(tx: Tx, lane: str, bounds: Bounds, most: int, road: Road = PLAIN, *, single: bool = False) -> Line:
    """Up to `most` jobs that may start, of users that are neither paused nor have all that they may have in flight.

    All of them may start together; with `single` each may, but one alone.
    """
    jobs: list[Row] = []
    seen = 0
    for number in range(min(bounds.memory.first_look(lane, AFRESH), len(LOOKS) - 1), len(LOOKS)):
        how, reach = LOOKS[number]
        found = _users(tx, lane, bounds, road, how=how, reach=reach, most=most)
        edge = next(row for row in found if row["kind"] == "edge")
        users = [user | {"places": most if single else min(places, most)} for user, places in _free(found)]
        jobs = _jobs(tx, lane, users[:most], most, road) if users else []
        seen = edge["seen"]
        if not edge["more"] or _proven(jobs, edge["beyond"], most):
            break
    bounds.memory.sufficed(lane, number)
    return Line(jobs, costly=seen > MANY)


def _proven(jobs: list[Row], beyond: int | None, most: int) -> bool:
    """Whether no job that was not looked at, all of which arrived after `beyond`, can stand among the first."""
    return beyond is not None and len(jobs) == most and jobs[-1]["rank"] <= beyond


def _free(found: list[Row]) -> Iterator[tuple[Row, int]]:
    """The users that may start something, and how much. A call of unknown outcome takes a place of its user too."""
    unclear = {(row["tenant_id"], row["user_id"]): row["total"] for row in found if row["kind"] == "unclear"}
    users = [row for row in found if row["kind"] == "user"]
    for user in sorted(users, key=lambda user: (_rank_of_head(user), user["head"])):
        taken = int(user["total"]) + unclear.get((user["tenant_id"], user["user_id"]), 0)
        places = EVERYBODY if user["cap"] is None else int(user["cap"]) - taken
        if places > 0:
            yield user, places


_COUNT = f"""SELECT count(*) FROM job r{{in_flight}}
      WHERE {IN_FLIGHT} AND r.tenant_id = who.tenant_id AND r.user_id = who.user_id"""
_CAP = "coalesce(l.max_in_flight, CAST(:cap AS INTEGER))"
_WAITS = "j.status = 'waiting' AND j.lane = :lane"
_USERS = f"""
WITH RECURSIVE {{who}},
unclear AS MATERIALIZED ({UNCLEAR_OF_USERS}),
seen AS MATERIALIZED (
  SELECT who.tenant_id, who.user_id, coalesce(l.weight, 1.0) AS weight, {_CAP} AS cap,
    ({_COUNT} AND r.lane = :lane) AS here,
    CASE WHEN {_CAP} IS NULL THEN 0 ELSE ({_COUNT}) END AS total,
    {{head}} AS head
  FROM who LEFT JOIN lane l ON l.name = 'user:' || who.tenant_id || '/' || who.user_id
  WHERE coalesce(l.paused_until, 0) <= :now
)
SELECT 'user' AS kind, best.*, CAST(NULL AS BIGINT) AS beyond, CAST(NULL AS BIGINT) AS more,
  CAST(NULL AS BIGINT) AS seen FROM (
  SELECT * FROM seen WHERE head IS NOT NULL AND (cap IS NULL OR total < cap)
  ORDER BY head + {QUANTUM_MS}.0 * here / weight, head LIMIT :most + (SELECT count(*) FROM unclear)) best
UNION ALL
SELECT 'unclear', tenant_id, user_id, NULL, NULL, NULL, calls, NULL, NULL, NULL, NULL FROM unclear
UNION ALL
SELECT 'edge', NULL, NULL, NULL, NULL, NULL, NULL, NULL, beyond, more, (SELECT count(*) FROM who) FROM edge"""
"""Calls of unknown outcome take places too. They are read in one statement with the jobs, so that what changes over is
in either; and once, since a provider that breaks down leaves hundreds."""

_HEAD = f"""(SELECT j.sort_at FROM job j{{by_user}} WHERE {_WAITS} AND j.tenant_id = who.tenant_id
      AND j.user_id = who.user_id{{which}} ORDER BY j.sort_at, j.id LIMIT 1)"""
"""Of all who wait, the first is not always one that is asked for."""

_FIRST = f"""
first AS MATERIALIZED (
  SELECT j.tenant_id, j.user_id, j.sort_at FROM job j{{by_arrival}} WHERE {_WAITS}{{which}}
  ORDER BY j.sort_at, j.id LIMIT :reach),
edge AS (SELECT max(sort_at) AS beyond, CASE WHEN count(*) < :reach THEN 0 ELSE 1 END AS more FROM first),
who AS MATERIALIZED (SELECT tenant_id, user_id, min(sort_at) AS head FROM first GROUP BY tenant_id, user_id)"""

_STEP_SQLITE = f"""
step(id) AS (
  SELECT * FROM (SELECT j.id FROM job j{{by_user}} WHERE {_WAITS}
    ORDER BY j.tenant_id, j.user_id, j.sort_at, j.id LIMIT 1)
  UNION ALL
  SELECT coalesce(
    (SELECT j.id FROM job j{{by_user}} WHERE {_WAITS} AND j.tenant_id = h.tenant_id AND j.user_id > h.user_id
      ORDER BY j.user_id, j.sort_at, j.id LIMIT 1),
    (SELECT j.id FROM job j{{by_user}} WHERE {_WAITS} AND j.tenant_id > h.tenant_id
      ORDER BY j.tenant_id, j.user_id, j.sort_at, j.id LIMIT 1))
  FROM step JOIN job h ON h.id = step.id LIMIT :reach),
who AS MATERIALIZED (SELECT h.tenant_id, h.user_id, h.sort_at AS head FROM step JOIN job h ON h.id = step.id)"""
"""SQLite compares pairs by their first member alone when it looks in an index."""
_STEP_POSTGRES = f"""
step AS (
  (SELECT j.tenant_id, j.user_id, j.sort_at AS head FROM job j WHERE {_WAITS}
    ORDER BY j.tenant_id, j.user_id, j.sort_at LIMIT 1)
  UNION ALL
  SELECT n.* FROM step CROSS JOIN LATERAL (SELECT j.tenant_id, j.user_id, j.sort_at FROM job j WHERE {_WAITS}
    AND (j.tenant_id, j.user_id) > (step.tenant_id, step.user_id)
    ORDER BY j.tenant_id, j.user_id, j.sort_at LIMIT 1) n),
who AS MATERIALIZED (SELECT * FROM step LIMIT :reach)"""
_EDGE = """,
edge AS (SELECT CAST(NULL AS BIGINT) AS beyond,
  CASE WHEN (SELECT count(*) FROM who) < :reach THEN 0 ELSE 1 END AS more)"""


def _users(tx: Tx, lane: str, bounds: Bounds, road: Road, *, how: How, reach: int, most: int) -> list[Row]:
    """Rows of three kinds: the best users; how many calls of unknown outcome whoever has such has (`total`); and one,
    `edge`: `seen` is how many users were looked at, `beyond` where the line was not looked at any further, and `more`
    says whether it goes on there."""
    step = _STEP_POSTGRES if tx.postgres else _STEP_SQLITE
    who = _FIRST if how is How.FIRST else step + _EDGE
    head = _HEAD if how is How.ALL and road.which else "who.head"
    asked = {"lane": lane, "now": tx.now, "since": bounds.unclear_since(tx.now), "cap": bounds.user}
    asked |= {"reach": reach, "most": most}
    return tx.all(_text(tx, _USERS, road, who=who, head=head), asked | dict(road.values))


def _text(tx: Tx, sql: str, road: Road, **parts: str) -> str:
    """SQLite is told which index to take: its planner, which knows averages, would read all that waits for users who
    have little."""
    indexes = {"by_user": "job_waiting_user", "by_arrival": road.index, "in_flight": "job_in_flight"}
    names = {slot: "" if tx.postgres else f" INDEXED BY {name}" for slot, name in indexes.items()}
    names["which"] = road.which
    return sql.format(**{part: text.format(**names) for part, text in parts.items()}, **names)


_WHOSE = {
    True: "json_to_recordset(CAST(:whose AS json)) AS u(t text, n text, here int, weight float8, places int)",
    False: "(SELECT json_extract(value, '$.t') AS t, json_extract(value, '$.n') AS n,"
    " json_extract(value, '$.here') AS here, json_extract(value, '$.weight') AS weight,"
    " json_extract(value, '$.places') AS places FROM json_each(:whose)) u",
}
_NEXT_OF_USER = f"""
SELECT j.id FROM job j{{by_user}} WHERE {_WAITS} AND j.tenant_id = u.t AND j.user_id = u.n{{which}}
ORDER BY j.sort_at, j.id LIMIT :each"""
_NUMBER = """
SELECT job.id, job.subject_id, job.tenant_id, job.user_id, job.sort_at, u.here, u.weight, u.places,
  row_number() OVER (PARTITION BY u.t, u.n ORDER BY job.sort_at, job.id) AS number FROM {whose}"""
_NUMBERED = {
    True: f"{_NUMBER} CROSS JOIN LATERAL ({_NEXT_OF_USER}) n JOIN job ON job.id = n.id",
    False: f"{_NUMBER} CROSS JOIN job ON job.id IN (SELECT id FROM ({_NEXT_OF_USER}))",
}
_JOBS = f"""
SELECT id, subject_id, tenant_id, user_id, sort_at, sort_at + {QUANTUM_MS}.0 * (here + number - 1) / weight AS rank
FROM ({{numbered}}) numbered WHERE number <= places ORDER BY rank, sort_at, id LIMIT :most"""


def _jobs(tx: Tx, lane: str, users: Sequence[Row], most: int, road: Road) -> list[Row]:
    """The next jobs of these users, ranked among each other."""
    worst = _rank_of_head(users[most - 1]) if len(users) >= most else None
    whose = [
        {
            "t": user["tenant_id"],
            "n": user["user_id"],
            "here": user["here"],
            "weight": user["weight"],
            "places": _useful(user, worst),
        }
        for user in users
    ]
    numbered = _NUMBERED[tx.postgres].replace("{whose}", _WHOSE[tx.postgres])
    each = max(user["places"] for user in whose)
    asked = {"lane": lane, "most": most, "each": each, "whose": json.dumps(whose)}
    return tx.all(_text(tx, _JOBS, road, numbered=numbered), asked | dict(road.values))


def _rank_of_head(user: Row) -> float:
    return rank(user["head"], in_flight=user["here"], position=1, weight=user["weight"])


def _useful(user: Row, worst: float | None) -> int:
    """How many of a user's jobs can be among the best, where that many heads stand at `worst` or before."""
    places = int(user["places"])
    if worst is None:
        return places
    return max(1, min(places, int((worst - _rank_of_head(user)) * user["weight"] / QUANTUM_MS) + 1))
