"""Resolving: a person says what became of a paid call that nobody could clear up. Written with who said it.

Whatever turn holds the job loses its lease: only its facts are kept, and those the ledger takes by token. So nothing
that a turn, a callback or the policy does at the same time can pay twice or end a run twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline import admission, chain, ledger, queue, timeline
from pipeline.db import Row, Tx
from pipeline.generations.deleting import UNSEEN
from pipeline.generations.reading import find
from pipeline.lifecycle import STAGE_OF_STEP, TERMINAL, GenerationStatus, JobKind, JobStatus, Stage, Step, move
from pipeline.outbox import Outbox
from providers.base import ErrorCode, Operation, ProviderError
from webhooks.events import EventType


class As(StrEnum):
    """What a person says: the provider has it, surely does not, or nobody will ever know."""

    ACCEPTED = "accepted"
    NOT_TAKEN = "not_taken"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was said, and by whom. `operation` goes with `accepted`, and was confirmed by a poll of ours.

    `own_answer` is how many seconds after its intent the call may still be under way, where nobody saw it end.
    """

    said: As
    by: str
    own_answer: float
    operation: str | None = None


class NotHeld(Exception):
    """There is no paid call of unknown outcome (any more); the message says what is so now."""


class StillUnderWay(Exception):
    """The call may be answered, or is being looked into, just now: nobody can say that it was not taken."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the call may still be under way")
        self.seconds = max(1, round(seconds + 0.5))


class OperationTaken(Exception):
    """The operation is that of another submission: of which generation is said to its own tenant alone."""

    def __init__(self, generation_id: str | None) -> None:
        super().__init__(f"the operation belongs to {generation_id or 'another generation'}")
        self.generation_id = generation_id


def held_call(tx: Tx, tenant: str, reference: str) -> tuple[Row, Row] | None:
    """A generation, and its call of unknown outcome. None if it is unknown; raises NotHeld."""
    row = find(tx, tenant, reference)
    return None if row is None else (row, _open_call(tx, row))


def _open_call(tx: Tx, row: Row) -> Row:
    submission = ledger.open_submission(tx, row["id"])
    if submission is not None and submission["outcome"] in {"unknown", "intended"}:
        return submission
    last = ledger.last(tx, row["id"])
    call = "nothing was submitted" if last is None else f"its last call is {last['outcome']}"
    if last is not None and last["operation_id"] is not None:
        call += f" (operation {last['operation_id']})"
    state = row["status"] if row["stage"] is None else f"{row['status']}, {row['stage']}"
    raise NotHeld(f"it is {state}; {call}")


def resolve(tx: Tx, tenant: str, reference: str, verdict: Verdict, events: Outbox) -> Row | None:
    """Do as a person says; the generation as it is then. None if it is unknown.

    Raises NotHeld, StillUnderWay (never for `accepted`), or OperationTaken.
    """
    known = find(tx, tenant, reference)
    if known is None:
        return None
    turn = queue.held_turn(tx, JobKind.GENERATION, known["id"])
    row = tx.one(f"SELECT * FROM generation WHERE id = :id{tx.for_update}", {"id": known["id"]})
    if row is None:
        return None
    submission = _open_call(tx, row)
    if verdict.said is not As.ACCEPTED or submission["outcome"] == "intended":
        _require_quiet(tx, turn, submission, verdict)
    _write(tx, submission, verdict)
    timeline.note(tx, row, "submit.decided", decision=verdict.said, by=verdict.by, operation=verdict.operation)
    _tell(tx, submission, verdict)
    return _ended(tx, row) if row["status"] in TERMINAL else _moved(tx, row, submission["token"], verdict, events)


def _tell(tx: Tx, submission: Row, verdict: Verdict) -> None:
    tx.emit(
        "submission.decided",
        generation=submission["generation_id"],
        provider=submission["provider"],
        decision=verdict.said,
        by=verdict.by,
        operation=verdict.operation,
    )


def forgotten_call(tx: Tx, tenant: str, generation_id: str) -> Row | None:
    """The call of unknown outcome of a generation of which only the ledger knows any more."""
    submission = ledger.open_submission(tx, generation_id)
    mine = submission is not None and submission["tenant_id"] == tenant and submission["outcome"] == "unknown"
    return submission if mine and find(tx, tenant, generation_id) is None else None


def resolve_forgotten(tx: Tx, tenant: str, generation_id: str, verdict: Verdict) -> bool:
    """Do as a person says of a call whose generation is gone: only the ledger changes, and nobody looks after the
    work. False if there is no such call. Raises StillUnderWay or OperationTaken."""
    submission = forgotten_call(tx, tenant, generation_id)
    if submission is None:
        return False
    if verdict.said is not As.ACCEPTED:
        _require_quiet(tx, None, submission, verdict)
    _write(tx, submission, verdict)
    ledger.give_up(tx, generation_id, UNSEEN)
    _tell(tx, submission, verdict)
    return True


def _require_quiet(tx: Tx, turn: Row | None, submission: Row, verdict: Verdict) -> None:
    """Nobody is asking the provider just now, and the call itself has ended. Raises StillUnderWay."""
    if turn is not None and turn["leased_until"] is not None:
        raise StillUnderWay((turn["leased_until"] - tx.now) / 1000)
    left = submission["intended_at"] + verdict.own_answer * 1000 - tx.now
    if submission["answered_at"] is None and left > 0:
        raise StillUnderWay(left / 1000)


def _write(tx: Tx, submission: Row, verdict: Verdict) -> None:
    """The fact, in the ledger. Raises OperationTaken."""
    token = submission["token"]
    match verdict.said:
        case As.ACCEPTED:
            assert verdict.operation is not None
            admission.hold_lane(tx, admission.provider_lane(submission["provider"]))  # two who name it come in turn
            owner = ledger.owner(tx, submission["provider"], verdict.operation)
            if owner is not None:
                own = owner["tenant_id"] == submission["tenant_id"]
                raise OperationTaken(owner["generation_id"] if own else None)
            ledger.accept(tx, token, Operation(verdict.operation, {"model": submission["model"]}))
        case As.NOT_TAKEN:
            message = f"not taken, by the word of {verdict.by}"
            error = ProviderError(ErrorCode.TRANSIENT, message, billed=False)
            ledger.reject(tx, token, error, code=ledger.BY_PERSON)
        case As.ABANDON:
            error = ProviderError(ErrorCode.TRANSIENT, f"given up by {verdict.by}")
            ledger.abandon(tx, token, error, code=ledger.BY_PERSON)


def _ended(tx: Tx, row: Row) -> Row:
    """Of a generation that has ended only the ledger changes; what the provider has is looked after."""
    if row["deleted_at"] is not None:
        ledger.give_up(tx, row["id"], UNSEEN)
    changed = {"billed": ledger.billed(tx, row["id"]), "updated_at": tx.now}
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    if ledger.open_submission(tx, row["id"]) is not None:
        queue.look_again(tx, row["id"])
    return row | changed


_NO_ERROR = {"error_code": None, "error_message": None, "error_retryable": None}


def _moved(tx: Tx, row: Row, token: str, verdict: Verdict, events: Outbox) -> Row:
    """The generation goes on, waits for a new call, or ends: job, row and event together."""
    match verdict.said:
        case As.ACCEPTED:
            queue.send_to(tx, JobKind.GENERATION, row["id"], Step.POLL)
            submission = ledger.by_token(tx, token)
            assert submission is not None
            elsewhere = chain.of_submission(row, submission)
            lane, more = admission.provider_lane(submission["provider"]), chain.has_fallback(row | elsewhere)
            queue.follow(tx, JobKind.GENERATION, row["id"], lane, fallback=more)
            return _update(tx, row, _accepted(submission, tx.now) | elsewhere)
        case As.NOT_TAKEN:
            queue.send_to(tx, JobKind.GENERATION, row["id"], Step.SUBMIT)
            return _update(tx, row, _NO_ERROR | {"stage": Stage.WAITING})
    cancelled = row["cancel_requested_at"] is not None
    queue.end(tx, JobKind.GENERATION, row["id"], JobStatus.CANCELLED if cancelled else JobStatus.DONE)
    generation = _update(tx, row, _end(tx, row, verdict, cancelled=cancelled))
    if cancelled:
        timeline.note(tx, generation, "ended.cancelled", billed=generation["billed"])
    else:
        timeline.note(tx, generation, "failed", code=generation["error_code"], reason=generation["error_message"])
    events.record(tx, generation, EventType.CANCELLED if cancelled else EventType.FAILED)
    return generation


def _accepted(submission: Row, now: int) -> Row:
    return _NO_ERROR | {
        "stage": STAGE_OF_STEP[Step.POLL],
        "operation": ledger.operation_of(submission),
        "accepted_at": now,
    }


def _end(tx: Tx, row: Row, verdict: Verdict, *, cancelled: bool) -> Row:
    status = GenerationStatus.CANCELLED if cancelled else GenerationStatus.FAILED
    message = f"whether the provider took the work was never found out; given up by {verdict.by}"
    error = {"error_code": "submit_unknown", "error_message": message, "error_retryable": 0}
    return (_NO_ERROR if cancelled else error) | {
        "status": move(GenerationStatus(row["status"]), status),
        "stage": None,
        "reserved_micros": 0,
        "billed": ledger.billed(tx, row["id"]),
        "finished_at": tx.now,
        "sequence": row["sequence"] + 1,
    }


def _update(tx: Tx, row: Row, changed: Row) -> Row:
    changed = changed | {"updated_at": tx.now}
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    return row | changed
