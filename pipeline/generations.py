"""Generations as clients reach them: create once, find, list, cancel. Every query is bound to a tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import TextClause, text
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from pipeline import admission, queue, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import TERMINAL, GenerationStatus, JobKind, Stage, Step, move
from pipeline.models import Generation
from pipeline.outbox import Outbox
from pipeline.schemas import OUR_PREFIX, GenerationCreate
from webhooks.events import EventType


class Conflict(Exception):
    """The key or the id was used before, for another request.

    `member` says which: `Idempotency-Key` or `generationId`.
    """

    def __init__(self, member: str, existing: Row) -> None:
        super().__init__(member)
        self.member = member
        self.existing = existing


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An input picture that was put into storage before the commit."""

    key: str
    sha256: str
    mime_type: str


def create(
    tx: Tx,
    *,
    generation_id: str,
    tenant: str,
    request: GenerationCreate,
    provider: str,
    idempotency_key: str | None,
    image: StoredImage | None,
) -> tuple[Row, bool]:
    """Write a generation and its job, once. Returns the row and whether it is new.

    The same request under the same key or id finds the first one. Raises Conflict when the request differs.
    """
    row = _asked(request, image) | {
        "id": generation_id,
        "tenant_id": tenant,
        "idempotency_key": idempotency_key,
        "provider": provider,
        "status": GenerationStatus.QUEUED,
        "stage": Stage.WAITING,
        "run": 1,
        "sequence": 0,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    if tx.insert("generation", row, on_conflict="DO NOTHING", returning="id") is None:
        return _existing(tx, tenant, request, idempotency_key), False
    lane = admission.provider_lane(provider)
    place = admission.sort_at(tx.now, request.priority)
    queue.enqueue(
        tx, queue.NewJob(JobKind.GENERATION, generation_id, tenant, lane, Step.SUBMIT, sort_at=place, waiting=True)
    )
    whole = find(tx, tenant, generation_id)
    assert whole is not None
    timeline.note(tx, whole, "queued", provider=provider, priority=request.priority)
    return whole, True


def _asked(request: GenerationCreate, image: StoredImage | None) -> Row:
    """The columns that a request fills."""
    hook = request.webhook
    return {
        "client_id": request.generation_id,
        "request_hash": request.fingerprint,
        "user_id": request.user_id,
        "prompt": request.prompt,
        "parameters": json.dumps(request.stored_parameters()),
        "labels": json.dumps(request.metadata),
        "model": request.model,
        "priority": request.priority,
        "input_key": image.key if image else None,
        "input_sha256": image.sha256 if image else None,
        "input_type": image.mime_type if image else None,
        "webhook_url": hook.url if hook else None,
        "webhook_events": json.dumps(hook.events) if hook and hook.events else None,
    }


def _existing(tx: Tx, tenant: str, request: GenerationCreate, idempotency_key: str | None) -> Row:
    """The generation that stands in the way of a new one."""
    by_key = idempotency_key and tx.one(
        "SELECT * FROM generation WHERE tenant_id = :tenant AND idempotency_key = :key",
        {"tenant": tenant, "key": idempotency_key},
    )
    row = by_key or tx.one(
        "SELECT * FROM generation WHERE tenant_id = :tenant AND client_id = :client",
        {"tenant": tenant, "client": request.generation_id},
    )
    assert row is not None
    if row["request_hash"] != request.fingerprint:
        raise Conflict("Idempotency-Key" if by_key else "generationId", row)
    return row


def repeated(tx: Tx, tenant: str, request: GenerationCreate, idempotency_key: str | None) -> Row | None:
    """The earlier generation that this request repeats, if there is one. Raises Conflict when it differs."""
    if idempotency_key is None and request.generation_id is None:
        return None
    known = tx.value(
        "SELECT 1 FROM generation WHERE tenant_id = :tenant AND idempotency_key = :key",
        {"tenant": tenant, "key": idempotency_key},
    ) or tx.value(
        "SELECT 1 FROM generation WHERE tenant_id = :tenant AND client_id = :client",
        {"tenant": tenant, "client": request.generation_id},
    )
    return _existing(tx, tenant, request, idempotency_key) if known else None


def find(tx: Tx, tenant: str, reference: str) -> Row | None:
    """A generation by our id (`gen_...`) or by the app's own."""
    return tx.one(
        f"SELECT * FROM generation WHERE tenant_id = :tenant AND {_id_column(reference)} = :reference",
        {"tenant": tenant, "reference": reference},
    )


def find_any(tx: Tx, generation_id: str) -> Row | None:
    """A generation by our id, whoever's it is: for callers who prove that it was shown to them."""
    return tx.one("SELECT * FROM generation WHERE id = :id", {"id": generation_id})


def _id_column(reference: str) -> str:
    return "id" if reference.startswith(OUR_PREFIX) else "client_id"


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to. `reference` is one of both ids; times in milliseconds since 1970."""

    reference: str | None = None
    statuses: tuple[str, ...] = ()
    user_id: str | None = None
    provider: str | None = None
    model: str | None = None
    error_code: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    metadata: Mapping[str, str] | None = None


def page(
    tx: Tx, tenant: str, filters: Filters, *, limit: int, after: str | None, oldest_first: bool = False
) -> list[Row]:
    """Up to `limit` generations behind the id `after`, newest first unless asked otherwise. Ids sort by time."""
    query = _narrowed(tenant, filters)
    if filters.metadata:
        query = query.where(*_labelled(filters.metadata, postgres=tx.postgres))
    order = col(Generation.id)
    if after is not None:
        query = query.where(order > after if oldest_first else order < after)
    query = query.order_by(order.asc() if oldest_first else order.desc()).limit(limit)
    with Session(bind=tx.connection) as session:
        return [row.model_dump() for row in session.exec(query)]


def _narrowed(tenant: str, filters: Filters) -> SelectOfScalar[Generation]:
    query = select(Generation).where(Generation.tenant_id == tenant)
    if filters.statuses:
        query = query.where(col(Generation.status).in_(filters.statuses))
    if filters.reference is not None:
        query = query.where(getattr(Generation, _id_column(filters.reference)) == filters.reference)
    for column, value in (
        (Generation.user_id, filters.user_id),
        (Generation.provider, filters.provider),
        (Generation.model, filters.model),
        (Generation.error_code, filters.error_code),
    ):
        if value is not None:
            query = query.where(col(column) == value)
    if filters.created_after is not None:
        query = query.where(col(Generation.created_at) > filters.created_after)
    if filters.created_before is not None:
        query = query.where(col(Generation.created_at) < filters.created_before)
    return query


def _labelled(wanted: Mapping[str, str], *, postgres: bool) -> list[TextClause]:
    """Conditions on `labels`, compared as JSON members: a pattern over its text could be tricked by quotes in a key."""
    member = (
        "EXISTS (SELECT 1 FROM json_each_text(CAST(generation.labels AS json)) AS pair WHERE {})"
        if postgres
        else "EXISTS (SELECT 1 FROM json_each(generation.labels) AS pair WHERE {})"
    )
    return [
        text(member.format(f"pair.key = :name{n} AND pair.value = :wanted{n}")).bindparams(
            **{f"name{n}": name, f"wanted{n}": value}
        )
        for n, (name, value) in enumerate(wanted.items())
    ]


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
        "cancel_requested_at": tx.now,
        "finished_at": tx.now,
        "updated_at": tx.now,
        "sequence": row["sequence"] + 1,
    }
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    timeline.note(tx, row, "ended.cancelled", before="a turn held it")
    outbox.record(tx, row | changed, EventType.CANCELLED)
    return row | changed


def _cancelling(tx: Tx, row: Row) -> Row:
    changed = {"cancel_requested_at": tx.now, "updated_at": tx.now}
    tx.update("generation", changed, "id = :id", {"id": row["id"]})
    timeline.note(tx, row, "cancel.requested")
    return row | changed


def counts(tx: Tx, since: int) -> dict[str, int]:
    """How many generations ended since a time, by status."""
    rows = tx.all(
        "SELECT status, count(*) AS n FROM generation"
        " WHERE finished_at >= :since AND finished_at IS NOT NULL GROUP BY status",
        {"since": since},
    )
    return {row["status"]: row["n"] for row in rows}
