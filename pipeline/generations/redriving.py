"""Redriving: a failed generation goes on where it failed, as a new run. What that costs is known before it is done.

What is paid for is never asked for again by itself: a video that the provider made is stored, work that it took is
polled, and only where nothing was taken is a new submission made. Where an earlier one may have cost something, that
needs the word of whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline import admission, ledger, queue, timeline
from pipeline.chain import has_fallback, of_submission
from pipeline.db import Row, Tx
from pipeline.generations.reading import Deleted, find
from pipeline.lifecycle import STAGE_OF_STEP, GenerationStatus, JobKind, Stage, Step, SubmissionOutcome, move
from pipeline.outbox import Outbox
from pipeline.spending import Bound, Purse, Shortage, unaffordable
from providers.base import ErrorCode
from webhooks.events import EventType


class From(StrEnum):
    """Where a redrive begins: with the file, with the provider's work, with clearing up an unknown call, anew."""

    STORE = "store"
    POLL = "poll"
    RESOLVE = "resolve"
    SUBMIT = "submit"


_STEPS = {From.STORE: Step.STORE, From.POLL: Step.POLL, From.RESOLVE: Step.RESOLVE, From.SUBMIT: Step.SUBMIT}


class NotRedrivable(Exception):
    """It cannot be redriven, or not from there; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a redrive would do.

    Args:
        submission: the one that it goes on with, or that a new one would replace.
        estimate_micros: what it is expected to cost, in micro-USD.
        paid_micros: what earlier submissions cost, or may have; None if surely nothing.
    """

    start: From
    submission: Row | None
    estimate_micros: int
    paid_micros: int | None

    @property
    def repays(self) -> bool:
        """Whether it would pay again for what may have been paid for already."""
        return self.start is From.SUBMIT and self.paid_micros is not None


class RepayNeeded(Exception):
    """It would pay again, and nobody allowed that."""

    def __init__(self, planned: Plan) -> None:
        super().__init__("a new submission would pay again")
        self.plan = planned


class NoMoney(Exception):
    """A new submission fits in no cap of today."""

    def __init__(self, shortage: Shortage) -> None:
        super().__init__(str(shortage))
        self.shortage = shortage


def plan(row: Row, submissions: Sequence[Row], wanted: From | None, estimate: int | None) -> Plan:
    """Where a failed generation goes on, by itself or as `wanted`. `estimate` is the price of a submission, if known.

    Pure. Raises NotRedrivable.
    """
    found, submission = _resume(row, submissions)
    possible = {found, From.SUBMIT} | ({From.POLL} if found is From.STORE else set())
    start = wanted or found
    if start not in possible:
        listed = " or ".join(sorted(possible))
        raise NotRedrivable(f"there is nothing to go on with from {start.value!r}: this one goes on from {listed}")
    if start is From.SUBMIT and estimate is None:
        raise NotRedrivable(f"the provider {row['provider']!r} is not configured here: nothing can be submitted")
    price = {From.SUBMIT: estimate, From.RESOLVE: row.get("estimate_micros") or estimate}.get(start)
    return Plan(start, submission, price or 0, ledger.possible_cost(submissions))


def _resume(row: Row, submissions: Sequence[Row]) -> tuple[From, Row | None]:
    """What is open goes before all others; then the newest video that was made, then the newest work that may still
    bring one. Only where there is none of them is anything asked for anew."""
    meant = [each for each in reversed(submissions) if not ledger.is_second(each)]
    for wanted in (_is_open, _is_made, _may_come):
        found = next((each for each in meant if wanted(each)), None)
        if found is not None:
            return _start_of(row, found), found
    return From.SUBMIT, None


def _start_of(row: Row, submission: Row) -> From:
    """How the work of a submission is gone on with."""
    match SubmissionOutcome(submission["outcome"]):
        case SubmissionOutcome.INTENDED | SubmissionOutcome.UNKNOWN:
            return From.RESOLVE
        case SubmissionOutcome.SUCCEEDED if _has_file(row, submission):
            return From.STORE
    return From.POLL


def _is_open(submission: Row) -> bool:
    return submission["outcome"] in {"intended", "accepted", "unknown"}


def _is_made(submission: Row) -> bool:
    return bool(submission["outcome"] == SubmissionOutcome.SUCCEEDED)


def _may_come(submission: Row) -> bool:
    """Whether the provider has work of which nobody saw the end."""
    if submission["operation_id"] is None:
        return False
    outcome, timed_out = submission["outcome"], submission["error_code"] == ErrorCode.TIMEOUT
    return outcome in {"rejected", "abandoned"} or (outcome == SubmissionOutcome.FAILED and timed_out)


def _has_file(row: Row, submission: Row) -> bool:
    """Whether the row still names the files of this submission."""
    stored = json.loads(row["operation"]) if row["operation"] else {}
    return stored.get("token") == submission["token"] and bool(stored.get("outputs"))


def redrive(
    tx: Tx,
    tenant: str,
    reference: str,
    outbox: Outbox,
    *,
    first: Callable[[Row], Row | None],
    purse: Purse | None = None,
    wanted: From | None = None,
    allow_repay: bool = False,
    dry_run: bool = False,
) -> tuple[Row, Plan] | None:
    """Start a new run of a failed generation; the row as it is then, and what was done. None if it is unknown.

    `first` gives the columns with which a generation begins anew: those of the first provider of its chain that can be
    asked, or None where there is none.
    Raises NotRedrivable, RepayNeeded or NoMoney (never with `dry_run`), or Deleted.
    """
    known = find(tx, tenant, reference)
    if known is None:
        return None
    queue.hold(tx, JobKind.GENERATION, known["id"])
    row = tx.one(f"SELECT * FROM generation WHERE id = :id{tx.for_update}", {"id": known["id"]})
    if row is None:
        return None
    _require_failed(row)
    anew = first(row)
    planned = plan(row, ledger.history(tx, row["id"]), wanted, None if anew is None else anew["estimate_micros"])
    if dry_run:
        return row, planned
    if planned.repays and not allow_repay:
        raise RepayNeeded(planned)
    if planned.start is From.SUBMIT:
        row = row | (anew or {})
        _require_money(tx, purse or Purse(), row)
    elif planned.submission is not None:
        row = row | of_submission(row, planned.submission)
    return _begin(tx, row, planned, outbox), planned


def _require_money(tx: Tx, purse: Purse, row: Row) -> None:
    price = (row["provider"], row["estimate_micros"])
    shortage = unaffordable(tx, purse, row["tenant_id"], row["user_id"], [price])
    if shortage is not None and not (shortage.bound is Bound.PROVIDER and has_fallback(row)):
        raise NoMoney(shortage)


_INSTEAD = {
    GenerationStatus.COMPLETED: "it is completed: there is nothing to do again; ask for another with a new request",
    GenerationStatus.CANCELLED: "it was cancelled: ask anew with a new request",
}


def _require_failed(row: Row) -> None:
    if row["deleted_at"] is not None:
        raise Deleted(row)
    if row["status"] != GenerationStatus.FAILED:
        raise NotRedrivable(_INSTEAD.get(row["status"], f"it is {row['status']}: only what has failed can be redriven"))


def _begin(tx: Tx, row: Row, planned: Plan, outbox: Outbox) -> Row:
    """Write the new run: the submission, the generation, the job, the timeline, and the event if somebody wants it."""
    _touch_ledger(tx, planned)
    queued = planned.start is From.SUBMIT
    told = not queued and outbox.wanted(tx, row, EventType.PROCESSING)
    changed = _restarted(row, tx.now) | _stage(row, planned, tx.now) | {"sequence": row["sequence"] + int(told)}
    changed |= {name: row[name] for name in _OF_CANDIDATE}
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    generation = row | changed
    place = admission.sort_at(tx.now, row["priority"])
    lane = admission.provider_lane(row["provider"])
    step, more = _STEPS[planned.start], has_fallback(row)
    job = queue.NewJob(
        JobKind.GENERATION,
        row["id"],
        row["tenant_id"],
        lane,
        step,
        sort_at=place,
        waiting=queued,
        fallback=more,
        user_id=row["user_id"],
    )
    queue.redrive(tx, job)
    timeline.note(
        tx,
        generation,
        "redriven",
        start=planned.start,
        estimate_micros=planned.estimate_micros,
        pays_again=planned.repays or None,
    )
    if told:
        outbox.record(tx, generation, EventType.PROCESSING)
    tx.emit("generation.redriven", generation=row["id"], run=generation["run"], start=planned.start)
    return generation


_OF_CANDIDATE = ("provider", "model", "extra", "duration", "estimate_micros", "candidate")


def _touch_ledger(tx: Tx, planned: Plan) -> None:
    """What is asked again is open again; what is replaced is closed, or the index would refuse the new one."""
    submission = planned.submission
    if submission is None:
        return
    if planned.start is From.SUBMIT and submission["outcome"] in {"intended", "accepted", "unknown"}:
        ledger.supersede(tx, submission)
    if planned.start is From.POLL:
        ledger.reopen(tx, submission["token"])


def _restarted(row: Row, now: int) -> Row:
    """The columns of every new run."""
    return {
        "run": row["run"] + 1,
        "error_code": None,
        "error_message": None,
        "error_retryable": None,
        "finished_at": None,
        "cancel_requested_at": None,
        "billed": None,
        "expires_at": None,
        "expired_at": None,
        "redriven_at": now,
        "updated_at": now,
    }


def _stage(row: Row, planned: Plan, now: int) -> Row:
    """The columns that say where the run begins. The deadline of work that is polled again begins anew."""
    status = GenerationStatus.QUEUED if planned.start is From.SUBMIT else GenerationStatus.PROCESSING
    moved: Row = {"status": move(GenerationStatus(row["status"]), status)}
    if planned.start is From.SUBMIT:
        unstarted = dict.fromkeys(("operation", "progress", "started_at", "accepted_at", "generated_at"))
        return moved | {"stage": Stage.WAITING} | unstarted
    moved["stage"] = STAGE_OF_STEP[_STEPS[planned.start]]
    if planned.start is From.POLL:
        assert planned.submission is not None
        return moved | {"operation": ledger.operation_of(planned.submission), "accepted_at": now, "progress": None}
    if planned.start is From.STORE:
        stored = json.loads(row["operation"])
        stored.pop("bad_files", None)
        return moved | {"operation": json.dumps(stored)}
    return moved
