"""Cancelling: at once while nothing was submitted, else with the next turn."""

from __future__ import annotations

from pipeline import ledger, queue, timeline
from pipeline.db import Row, Tx
from pipeline.generations.reading import find
from pipeline.lifecycle import TERMINAL, GenerationStatus, JobKind, move
from pipeline.outbox import Outbox
from webhooks.events import EventType


def cancel(tx: Tx, tenant: str, reference: str, outbox: Outbox) -> Row | None:
    """Cancel a generation: at once if nothing was submitted, else as soon as its next turn records.

    Returns it as it is then, or None if it is unknown. A generation that has ended stays as it is.
    """
    row = find(tx, tenant, reference)
    if row is None or row["status"] in TERMINAL:
        return row
    at_once = queue.cancel_unstarted(tx, JobKind.GENERATION, row["id"])
    if not at_once and row["cancel_requested_at"] is None:
        queue.request_cancel(tx, JobKind.GENERATION, row["id"])
    # The job's row is held now, as every turn's record holds it: what is read from here on stays so until the commit.
    row = find(tx, tenant, row["id"])
    assert row is not None
    if row["status"] in TERMINAL or (row["cancel_requested_at"] is not None and not at_once):
        return row
    return _cancelled(tx, row, outbox) if at_once else _cancelling(tx, row)


def _cancelled(tx: Tx, row: Row, outbox: Outbox) -> Row:
    changed = {
        "status": move(GenerationStatus(row["status"]), GenerationStatus.CANCELLED),
        "stage": None,
        "reserved_micros": 0,
        "billed": ledger.billed(tx, row["id"]),
        "cancel_requested_at": tx.now,
        "finished_at": tx.now,
        "updated_at": tx.now,
        "sequence": row["sequence"] + 1,
    }
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    timeline.note(tx, row, "ended.cancelled", before="a turn held it", billed=changed["billed"])
    outbox.record(tx, row | changed, EventType.CANCELLED)
    if any(each["candidate_operation_id"] is not None for each in ledger.history(tx, row["id"])):
        queue.look_again(tx, row["id"])  # what was named for a call of before may be at work
    return row | changed


def _cancelling(tx: Tx, row: Row) -> Row:
    changed = {"cancel_requested_at": tx.now, "billed": ledger.billed(tx, row["id"]), "updated_at": tx.now}
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    timeline.note(tx, row, "cancel.requested", billed=changed["billed"])
    return row | changed
