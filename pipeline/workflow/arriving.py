"""The answer to a paid call, whenever it arrives: written by token, and told where it comes too late."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline import admission, chain, ledger, queue, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import STAGE_OF_STEP, TERMINAL, GenerationStatus, JobKind, Step, SubmissionOutcome, move
from providers.base import Operation


def accept(tx: Tx, generation: Row, token: str, operation: Operation) -> None:
    """Write the acceptance. One that comes after the generation's end, or beside another one, may have been charged:
    the job takes another look. One that waits for admission meanwhile waits no more.
    """
    written = ledger.accept(tx, token, operation)
    known = ledger.by_token(tx, token)
    if known is None:
        return
    if not written:
        if known["operation_id"] not in {None, operation.id}:
            ledger.add_candidate(tx, token, operation.id)
            queue.look_again(tx, generation["id"])
        return
    status = tx.value("SELECT status FROM generation WHERE id = :id", {"id": generation["id"]})
    if status in TERMINAL:
        timeline.note(tx, generation, "submit.late", operation=operation.id, billed="unknown")
        keep_billed(tx, generation["id"])
        queue.look_again(tx, generation["id"])
    elif known["outcome"] != SubmissionOutcome.ACCEPTED:
        queue.wake(tx, JobKind.GENERATION, generation["id"])
    elif queue.leave_line(tx, JobKind.GENERATION, generation["id"], Step.POLL):
        _go_on(tx, generation["id"], known)


def _go_on(tx: Tx, generation_id: str, submission: Row) -> None:
    """What waited to pay anew goes on with what was paid for."""
    row = tx.one("SELECT * FROM generation WHERE id = :id", {"id": generation_id})
    assert row is not None
    changed = adopted(row, submission, tx.now) | {
        "status": move(GenerationStatus(row["status"]), GenerationStatus.PROCESSING),
        "stage": STAGE_OF_STEP[Step.POLL],
        "started_at": row["started_at"] or tx.now,
        "reserved_micros": 0,
        "updated_at": tx.now,
    }
    changed |= dict.fromkeys(("error_code", "error_message", "error_retryable"))
    tx.update("generation", changed, "id = :id", {"id": generation_id})
    follow(tx, row, changed)
    timeline.note(tx, row, "submit.resolved", operation=submission["operation_id"], by="its own answer")


def adopted(generation: Row, submission: Row, now: int) -> dict[str, object]:
    """A generation's columns after a submission that is known to be accepted, whichever provider has it."""
    known = {"operation": ledger.operation_of(submission), "accepted_at": now}
    return known | chain.of_submission(generation, submission)


def follow(tx: Tx, before: Row, changed: Mapping[str, object]) -> None:
    """The job goes where its generation's work was taken."""
    if "provider" in changed:
        lane, more = admission.provider_lane(str(changed["provider"])), chain.has_fallback(before | dict(changed))
        queue.follow(tx, JobKind.GENERATION, before["id"], lane, fallback=more)


def keep_billed(tx: Tx, generation_id: str) -> None:
    """What a generation that has ended says of its charge is what the ledger says by now."""
    tx.run(
        "UPDATE generation SET billed = :billed, updated_at = :now"
        " WHERE id = :id AND finished_at IS NOT NULL AND billed <> :billed",
        {"id": generation_id, "billed": ledger.billed(tx, generation_id), "now": tx.now},
    )
