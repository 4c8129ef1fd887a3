"""Dead letters of both kinds, set going again one after the other: what cannot go on is counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline import outbox, queue
from pipeline.db import Row, Tx
from pipeline.generations.reading import Deleted
from pipeline.generations.redriving import NoMoney, NotRedrivable, RepayNeeded, redrive
from pipeline.lifecycle import JobKind
from pipeline.outbox import BodyForgotten, Outbox
from pipeline.queue import DeadFilter, Place
from pipeline.spending import Purse


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many went on, by kind, what that costs in micro-USD, and how many did not, by reason."""

    redriven: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    estimate_micros: int = 0

    @property
    def count(self) -> int:
        """How many went on."""
        return sum(self.redriven.values())

    def plus(self, other: Redriven) -> Redriven:
        """Both together."""
        return Redriven(
            self.redriven + other.redriven,
            self.refused + other.refused,
            self.estimate_micros + other.estimate_micros,
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms dead letters go on.

    Args:
        first: a generation's columns with the first provider of its chain that can be asked, or None (see `redrive`).
        tenant: that of the caller, or None for the operator.
    """

    first: Callable[[Row], Row | None]
    allow_repay: bool = False
    dry_run: bool = False
    tenant: str | None = None
    purse: Purse | None = None


def redrive_dead(
    tx: Tx, narrowed: DeadFilter, events: Outbox, terms: Terms, *, limit: int, after: Place | None = None
) -> tuple[Redriven, Place | None]:
    """Set up to `limit` dead letters going again, those that died last first; the place where it stopped, or None once
    there are no more."""
    rows = queue.dead(tx, narrowed, limit=limit, after=after)
    done = Redriven()
    for row in rows:
        done = done.plus(_one(tx, row, events, terms))
    return done, (rows[-1]["finished_at"], rows[-1]["job_id"]) if len(rows) == limit else None


def _one(tx: Tx, row: Row, events: Outbox, terms: Terms) -> Redriven:
    try:
        micros = _revived(tx, row, terms) if row["kind"] == JobKind.DELIVERY else _redriven(tx, row, events, terms)
    except RepayNeeded:
        return Redriven(refused=Counter(["repay_needed"]))
    except NoMoney:
        return Redriven(refused=Counter(["spend_cap"]))
    except NotRedrivable:
        return Redriven(refused=Counter(["not_redrivable"]))
    except (Deleted, BodyForgotten):
        return Redriven(refused=Counter(["gone"]))
    if micros is None:
        return Redriven(refused=Counter(["not_dead"]))
    return Redriven(redriven=Counter([row["kind"]]), estimate_micros=micros)


def _revived(tx: Tx, row: Row, terms: Terms) -> int | None:
    if terms.dry_run:
        outbox.require_body(tx, row["subject_id"])
        return 0
    return 0 if outbox.revive(tx, row["subject_id"], tenant=terms.tenant) else None


def _redriven(tx: Tx, row: Row, events: Outbox, terms: Terms) -> int | None:
    done = redrive(
        tx,
        row["tenant_id"],
        row["subject_id"],
        events,
        first=terms.first,
        purse=terms.purse,
        allow_repay=terms.allow_repay,
        dry_run=terms.dry_run,
    )
    if done is None:
        return None
    planned = done[1]
    if planned.repays and not terms.allow_repay:
        raise RepayNeeded(planned)
    return planned.estimate_micros
