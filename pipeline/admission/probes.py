"""Probes: who is sent first to a provider that may work again, and whose refusals are his own.

A key that is bad, or an account without credit, refuses everybody; but one request alone may be refused with the same
words, for a model that the key may not use. So whoever was refused goes behind the others for the next probe; and a
refusal is his own where the provider took the work of somebody else since it refused him before.
"""

from __future__ import annotations

from pipeline.admission.bounds import Bounds
from pipeline.admission.line import PLAIN, Line, Road, line
from pipeline.db import Tx
from providers.base import ErrorCode

MOST_LOOKED_AT = 100
REFUSALS = f"s.outcome = 'rejected' AND s.error_code IN ('{ErrorCode.AUTH}', '{ErrorCode.QUOTA}')"
_HIS = f"FROM submission s WHERE s.generation_id = {{subject}} AND s.provider = :provider AND {REFUSALS}"


_NEW = f" AND NOT EXISTS (SELECT 1 {_HIS.format(subject='j.subject_id')})"
_LAST = (
    f"SELECT j.id, (SELECT max(s.id) {_HIS.format(subject='j.subject_id')}) AS refused FROM job j WHERE j.id {{among}}"
)
"""The newest refusal of each; ids tell the time."""


def probes(tx: Tx, lane: str, bounds: Bounds, most: int, road: Road = PLAIN) -> Line:
    """Who may be sent to a provider that is probed: in line, who was never refused by it; then who was refused longest
    ago. One of them is to start, or any number of different users."""
    provider = ("provider", lane.partition(":")[2])
    new = line(tx, lane, bounds, most, Road(road.which + _NEW, (*road.values, provider), road.index), single=True)
    if len(new.jobs) >= most:
        return new
    known = {job["id"] for job in new.jobs}
    others = [job for job in line(tx, lane, bounds, MOST_LOOKED_AT, road, single=True).jobs if job["id"] not in known]
    asked = {"ids": tx.of([job["id"] for job in others]), "provider": provider[1]}
    last = {row["id"]: row["refused"] or "" for row in tx.all(_LAST.format(among=tx.among), asked)}
    others.sort(key=lambda job: last[job["id"]])
    return Line([*new.jobs, *others][:most], costly=new.costly)


_TIMES = f"""
SELECT s.intended_at AS at FROM submission s WHERE s.generation_id = :id AND s.run = :run AND s.provider = :provider
AND {REFUSALS} ORDER BY s.id DESC LIMIT {MOST_LOOKED_AT}"""
_TAKEN = """
SELECT EXISTS (SELECT 1 FROM submission WHERE provider = :provider AND intended_at > :since AND intended_at < :until
  AND operation_id IS NOT NULL AND generation_id <> :id)"""


def own_refusals(tx: Tx, generation_id: str, run: int, provider: str) -> int:
    """How many of the refusals of a run are the generation's own; 0 while the provider refuses whomever it is asked
    for."""
    about = {"id": generation_id, "provider": provider}
    times = [row["at"] for row in tx.all(_TIMES, about | {"run": run})]
    pairs = zip(times[1:], times, strict=False)
    own = sum(bool(tx.value(_TAKEN, about | {"since": before, "until": after})) for before, after in pairs)
    return own + 1 if own else 0
