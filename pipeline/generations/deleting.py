"""Deleting: what a person wrote and what was made of it goes; that it was, when, and what it cost stays.

The row says first that it is deleted, and still names its files until those are gone. Whoever dies in between leaves a
generation that nobody can read any more, whose files the same call, or the sweep of orphans, removes. The other way
round the API would promise a video that is not there.
"""

from __future__ import annotations

from pipeline import ledger, outbox, queue, timeline
from pipeline.db import Row, Tx
from pipeline.generations.reading import find
from pipeline.lifecycle import TERMINAL, JobKind
from pipeline.names import input_key, last_input_key, video_key
from providers.base import ErrorCode, ProviderError

UNSEEN = ProviderError(ErrorCode.CANCELLED, "its generation was deleted before its late result was known")


class NotEnded(Exception):
    """It is under way: it has to be cancelled, or to end, before it can be deleted."""

    def __init__(self, row: Row, reason: str | None = None) -> None:
        super().__init__(reason or f"it is {row['status']}: cancel it first, or wait for its end")


def bury(tx: Tx, tenant: str, reference: str) -> tuple[Row, list[str]] | None:
    """Blank a generation that has ended; the row, and the keys of the files that are to be removed now.

    Repeating it is harmless. None if it is unknown; raises NotEnded.
    """
    known = find(tx, tenant, reference)
    if known is None:
        return None
    queue.hold(tx, JobKind.GENERATION, known["id"])
    row = tx.one(f"SELECT * FROM generation WHERE id = :id{tx.for_update}", {"id": known["id"]})
    if row is None:
        return None
    if row["status"] not in TERMINAL:
        raise NotEnded(row)
    turn = queue.held_turn(tx, JobKind.GENERATION, row["id"])
    if turn is not None and turn["leased_until"] is not None:
        raise NotEnded(row, "its late result is being looked at just now: ask again in a moment")
    if row["deleted_at"] is None:
        row |= _blank(tx, row)
    return row, _keys(row, ledger.history(tx, row["id"]))


def _blank(tx: Tx, row: Row) -> Row:
    changed = {
        "deleted_at": tx.now,
        "updated_at": tx.now,
        "expired_at": row["expired_at"] or (tx.now if row["video_key"] is not None else None),
        "prompt": "",
        "parameters": "{}",
        "extra": "{}",
        "chain": "[]",
        "candidate": 0,
        "warnings": None,
        "labels": "{}",
        "user_id": None,
        "webhook_url": None,
        "error_message": None if row["error_message"] is None else "",
        "operation": None,
    }
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    ledger.give_up(tx, row["id"], UNSEEN)
    ledger.blank(tx, row["id"])
    outbox.forget_bodies(tx, row["id"])
    timeline.forget(tx, row["id"])
    timeline.note(tx, row, "deleted")
    queue.forget(tx, JobKind.GENERATION, [row["id"]])
    tx.emit("generation.deleted", generation=row["id"], status=row["status"])
    return changed


def _keys(row: Row, submissions: list[Row]) -> list[str]:
    """Every file that may be there: also that of a run whose record was lost after the upload."""
    made = [video_key(row["tenant_id"], row["id"], each["token"]) for each in submissions if each["operation_id"]]
    named = [key for key in (row["video_key"], row["input_key"], row["last_input_key"]) if key is not None]
    if row["input_type"] is not None:
        named.append(input_key(row["tenant_id"], row["id"]))
    if row["last_input_type"] is not None:
        named.append(last_input_key(row["tenant_id"], row["id"]))
    return list(dict.fromkeys([*named, *made]))


def buried(tx: Tx, generation_id: str) -> None:
    """The files are gone: the row stops naming them."""
    tx.run(
        "UPDATE generation SET video_key = NULL, input_key = NULL, last_input_key = NULL"
        " WHERE id = :id AND deleted_at IS NOT NULL",
        {"id": generation_id},
    )
    outbox.forget_bodies(tx, generation_id)
