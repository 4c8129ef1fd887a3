"""What becomes of a submission. Every function but `intend` states a fact by token, and may be repeated."""

from __future__ import annotations

import json
import logging

from pipeline.db import Row, Tx
from pipeline.ledger.reading import OPEN, by_token, open_submission
from pipeline.lifecycle import SubmissionOutcome
from providers.base import ErrorCode, Operation, ProviderError, Recovery

_ANOTHER_IS_OPEN = (
    "EXISTS (SELECT 1 FROM submission other WHERE other.generation_id = submission.generation_id"
    f" AND other.token <> submission.token AND other.{OPEN})"
)


MAX_TOKEN = 200


def intend(
    tx: Tx, generation: Row, *, token: str, estimate_micros: int, recovery: Recovery, rings: bool = True
) -> bool:
    """Write the intent to pay once, with what the call carries for its recovery; `rings` says whether the provider is
    told where to ring. False if another submission of this generation is still open.
    """
    row = tx.insert(
        "submission",
        {
            "id": token,
            "generation_id": generation["id"],
            "tenant_id": generation["tenant_id"],
            "user_id": generation["user_id"],
            "run": generation["run"],
            "provider": generation["provider"],
            "model": generation["model"],
            "token": token,
            "outcome": SubmissionOutcome.INTENDED,
            "carries": " ".join(carriers(recovery, rings=rings)),
            "billed": "unknown",
            "estimate_micros": estimate_micros,
            "intended_at": tx.now,
        },
        on_conflict="DO NOTHING",
        returning="id",
    )
    if row is not None:
        tx.emit(
            "submission.opened",
            level=logging.DEBUG,
            submission=token,
            generation=generation["id"],
            provider=generation["provider"],
            estimate_micros=estimate_micros,
        )
    return row is not None


def carriers(recovery: Recovery, *, rings: bool) -> list[str]:
    """How our token travels with a call: only by what was sent can it be found again, whatever is set by then."""
    ways = {
        "key": recovery.idempotency_seconds,
        "lookup": recovery.lookup_quiet_seconds,
        "callback": recovery.callback_seconds if rings else None,
    }
    return [name for name, seconds in ways.items() if seconds is not None]


def accept(tx: Tx, token: str, operation: Operation) -> bool:
    """The provider took the work. Repairs a submission that was already unknown or abandoned. True if this wrote it.

    Where a later submission of the same generation is open by now, the old one keeps its outcome but learns its
    operation, so that the ledger still shows what was paid for. A cost that was written before this was known is
    withdrawn.
    """
    return bool(
        tx.run(
            "UPDATE submission SET operation_id = :operation_id, operation = :operation, answered_at = :now,"
            f" outcome = CASE WHEN {_ANOTHER_IS_OPEN} THEN outcome ELSE 'accepted' END,"
            f" closed_at = CASE WHEN {_ANOTHER_IS_OPEN} THEN closed_at END,"
            f" error_code = CASE WHEN {_ANOTHER_IS_OPEN} THEN error_code END,"
            f" error_message = CASE WHEN {_ANOTHER_IS_OPEN} THEN error_message END,"
            " billed = 'unknown', cost_micros = NULL WHERE token = :token AND operation_id IS NULL",
            {
                "operation_id": operation.id,
                "operation": json.dumps(dict(operation.data)),
                "now": tx.now,
                "token": token,
            },
        )
    )


def reject(tx: Tx, token: str, error: ProviderError, *, code: str | None = None) -> None:
    """The provider surely did not take the work: closed at no cost. `code` is written instead of the error's own."""
    _close(
        tx,
        token,
        SubmissionOutcome.REJECTED,
        error=error,
        code=code,
        billed="no",
        cost_micros=0,
        only="operation_id IS NULL",
    )


def mark_unknown(tx: Tx, token: str, error: ProviderError, *, answered: bool, code: str | None = None) -> None:
    """Nobody knows. `answered` says that our call has ended, so that no answer of its own can come any more; `code` is
    written instead of the error's own."""
    tx.run(
        "UPDATE submission SET outcome = 'unknown', error_code = :code, error_message = :message,"
        " answered_at = CASE WHEN :answered = 1 THEN :now ELSE answered_at END"
        " WHERE token = :token AND outcome IN ('intended', 'unknown') AND operation_id IS NULL",
        {
            "code": code or error.code,
            "message": error.message,
            "answered": int(answered),
            "now": tx.now,
            "token": token,
        },
    )


def abandon(tx: Tx, token: str, error: ProviderError, *, code: str | None = None) -> None:
    """Nothing more can be found out: closed, and what it cost stays unknown. `code` is written instead of the error's
    own."""
    outcome = SubmissionOutcome.ABANDONED
    _close(tx, token, outcome, error=error, code=code, billed="unknown", only="operation_id IS NULL")


def succeed(tx: Tx, token: str, cost_micros: int | None) -> None:
    """The provider finished the work; without a reported cost the estimate stands."""
    before = _known_cost(tx, token)
    closed = tx.all(
        "UPDATE submission SET outcome = 'succeeded', billed = 'yes', closed_at = :now,"
        " cost_micros = coalesce(:cost, estimate_micros) WHERE token = :token AND outcome = 'accepted'"
        " RETURNING *",
        {"cost": cost_micros, "now": tx.now, "token": token},
    )
    _tell_closed(tx, closed, before)


def fail(tx: Tx, token: str, error: ProviderError, cost_micros: int | None = None) -> None:
    """The provider ended the work without a result, or was asked to stop it; `error.billed` says what is known of the
    charge."""
    billed = "yes" if cost_micros else {True: "yes", False: "no", None: "unknown"}[error.billed]
    cost = 0 if billed == "no" else cost_micros
    _close(
        tx, token, SubmissionOutcome.FAILED, error=error, billed=billed, cost_micros=cost, only="outcome = 'accepted'"
    )


def _close(
    tx: Tx,
    token: str,
    outcome: SubmissionOutcome,
    *,
    error: ProviderError,
    billed: str,
    only: str,
    among: str = OPEN,
    cost_micros: int | None = None,
    code: str | None = None,
) -> bool:
    before = _known_cost(tx, token)
    closed = tx.all(
        "UPDATE submission SET outcome = :outcome, billed = :billed, cost_micros = :cost, error_code = :code,"
        f" error_message = :message, closed_at = :now WHERE token = :token AND {only} AND {among} RETURNING *",
        {
            "outcome": outcome,
            "billed": billed,
            "cost": cost_micros,
            "code": code or error.code,
            "message": error.message,
            "now": tx.now,
            "token": token,
        },
    )
    _tell_closed(tx, closed, before)
    return bool(closed)


def _known_cost(tx: Tx, token: str) -> int:
    return int(tx.value("SELECT cost_micros FROM submission WHERE token = :token", {"token": token}) or 0)


def _tell_closed(tx: Tx, rows: list[Row], before: int) -> None:
    """Money is counted by what is committed here, and by nothing else; of one that was closed before, what is new."""
    for row in rows:
        tx.emit(
            "submission.closed",
            level=logging.DEBUG,
            submission=row["token"],
            generation=row["generation_id"],
            provider=row["provider"],
            outcome=row["outcome"],
            billed=row["billed"],
            estimate_micros=row["estimate_micros"],
            cost_micros=row["cost_micros"],
            charged_micros=None if row["cost_micros"] is None else max(0, row["cost_micros"] - before),
            code=row["error_code"],
        )


def add_candidate(tx: Tx, token: str, operation_id: str) -> None:
    """An operation was named for a call whose answer we lack, or another than its answer named: remembered, and
    believed only after a poll of our own."""
    tx.run(
        "UPDATE submission SET candidate_operation_id = :operation_id"
        " WHERE token = :token AND (operation_id IS NULL OR operation_id <> :operation_id)",
        {"operation_id": operation_id, "token": token},
    )


def drop_candidate(tx: Tx, token: str, operation_id: str) -> None:
    """What was named is not the provider's, or was looked into."""
    tx.run(
        "UPDATE submission SET candidate_operation_id = NULL"
        " WHERE token = :token AND candidate_operation_id = :operation_id",
        {"operation_id": operation_id, "token": token},
    )


def close_second(tx: Tx, token: str, operation_id: str, error: ProviderError) -> bool:
    """The operation of this submission is a second one of its generation: closed, with what is known of its charge.

    Where the submission has another operation, the second one gets a row of its own, since it may cost as much. True
    if this closed it.
    """
    row = by_token(tx, token)
    if row is None:
        return False
    if row["operation_id"] != operation_id:
        drop_candidate(tx, token, operation_id)
        token = f"{token}.{operation_id}"[:MAX_TOKEN]
        extra = {"id": token, "token": token, "operation_id": operation_id, "outcome": "rejected", "closed_at": tx.now}
        blank = dict.fromkeys(("candidate_operation_id", "error_code", "error_message"))
        tx.insert("submission", row | extra | blank, on_conflict="DO NOTHING")
    reported = {True: "yes", False: "no", None: "unknown"}[error.billed]
    return _close(
        tx,
        token,
        SubmissionOutcome.FAILED,
        error=error,
        billed=reported,
        cost_micros=0 if reported == "no" else None,
        only="operation_id IS NOT NULL",
        among="outcome IN ('accepted', 'rejected', 'abandoned')",
    )


def note_billed(tx: Tx, token: str, billed: bool | None) -> None:
    """The provider said whether it charges for work that is still open; None says nothing."""
    if billed is not None:
        tx.run(
            "UPDATE submission SET billed = :billed WHERE token = :token AND outcome = 'accepted'",
            {"billed": "yes" if billed else "no", "token": token},
        )


def reopen(tx: Tx, token: str) -> None:
    """A redrive asks again what became of a submission that was closed. What is known of its cost stays.

    Where another of the same generation is open, the unique index refuses.
    """
    tx.run(
        "UPDATE submission SET outcome = 'accepted', closed_at = NULL, error_code = NULL, error_message = NULL"
        f" WHERE token = :token AND operation_id IS NOT NULL AND NOT {OPEN}",
        {"token": token},
    )


SUPERSEDED = ProviderError(ErrorCode.CANCELLED, "given up by a redrive that was allowed to pay again")


def supersede(tx: Tx, submission: Row) -> None:
    """Close what is still open, because somebody chose to pay anew; what it costs stays unknown."""
    if submission["outcome"] == SubmissionOutcome.ACCEPTED:
        fail(tx, submission["token"], SUPERSEDED)
    else:
        abandon(tx, submission["token"], SUPERSEDED)


def give_up(tx: Tx, generation_id: str, error: ProviderError) -> None:
    """Close what a generation's provider had taken and nobody waits for any more; what it costs stays as it is
    known."""
    row = open_submission(tx, generation_id)
    if row is not None and row["outcome"] == SubmissionOutcome.ACCEPTED:
        fail(tx, row["token"], error)
