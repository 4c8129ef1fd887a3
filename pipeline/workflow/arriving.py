"""The answer to a paid call, whenever it arrives: written by token, and told where it comes too late."""

from __future__ import annotations

from pipeline import ledger, queue, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import TERMINAL, JobKind, SubmissionOutcome
from providers.base import Operation


def accept(tx: Tx, generation: Row, token: str, operation: Operation) -> None:
    """Write the acceptance. One that comes after the generation's end, or beside another one, may have been charged:
    the job takes another look.
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


def keep_billed(tx: Tx, generation_id: str) -> None:
    """What a generation that has ended says of its charge is what the ledger says by now."""
    tx.run(
        "UPDATE generation SET billed = :billed, updated_at = :now"
        " WHERE id = :id AND finished_at IS NOT NULL AND billed <> :billed",
        {"id": generation_id, "billed": ledger.billed(tx, generation_id), "now": tx.now},
    )
