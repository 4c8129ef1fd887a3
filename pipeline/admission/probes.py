"""Probes: who is sent first to a provider that may work again, and whose refusals are his own.

A key that is bad, or an account without credit, refuses everybody; but one request alone may be refused with the same
words, for a model that the key may not use. So whoever was refused goes behind the others for the next probe; and a
refusal is his own where the provider took the work of somebody else since it refused him before.
"""

from __future__ import annotations

from pipeline.db import Tx
from providers.base import ErrorCode

MOST_LOOKED_AT = 100
REFUSALS = f"s.outcome = 'rejected' AND s.error_code IN ('{ErrorCode.AUTH}', '{ErrorCode.QUOTA}')"
_HIS = f"FROM submission s WHERE s.generation_id = {{subject}} AND s.provider = :provider AND {REFUSALS}"


def never_refused(subject: str) -> str:
    """SQL: this provider (`:provider`) never refused the key, or the credit, of the generation `subject`."""
    return f"NOT EXISTS (SELECT 1 {_HIS.format(subject=subject)})"


def last_refused(subject: str) -> str:
    """SQL: the newest of those refusals, which is NULL where there is none; ids tell the time."""
    return f"(SELECT max(s.id) {_HIS.format(subject=subject)})"


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
