"""Making a generation, once, whatever is sent again."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipeline import admission, queue, timeline
from pipeline.chain import Chain, columns
from pipeline.db import Row, Tx
from pipeline.generations.reading import Deleted, find
from pipeline.lifecycle import GenerationStatus, JobKind, Stage, Step
from pipeline.schemas import GenerationCreate


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
    chain: Chain,
    idempotency_key: str | None,
    image: StoredImage | None = None,
    last_image: StoredImage | None = None,
    traceparent: str | None = None,
) -> tuple[Row, bool]:
    """Write a generation and its job, once. Returns the row and whether it is new.

    The same request under the same key or id finds the first one. Raises Conflict when the request differs, Deleted
    when the first one was deleted.
    """
    row = _asked(request, image, last_image) | columns(chain)
    row |= {
        "id": generation_id,
        "tenant_id": tenant,
        "idempotency_key": idempotency_key,
        "status": GenerationStatus.QUEUED,
        "stage": Stage.WAITING,
        "run": 1,
        "sequence": 0,
        "created_at": tx.now,
        "updated_at": tx.now,
        "traceparent": traceparent,
    }
    if tx.insert("generation", row, on_conflict="DO NOTHING", returning="id") is None:
        return _existing(tx, tenant, request, idempotency_key), False
    _enqueue(tx, row, chain)
    whole = find(tx, tenant, generation_id)
    assert whole is not None
    timeline.note(tx, whole, "queued", provider=chain.first.provider, priority=request.priority)
    for left_out, reason in chain.left_out:
        timeline.note(tx, whole, "provider.left_out", provider=left_out, reason=reason)
    return whole, True


def _enqueue(tx: Tx, row: Row, chain: Chain) -> None:
    job = queue.NewJob(
        JobKind.GENERATION,
        row["id"],
        row["tenant_id"],
        admission.provider_lane(chain.first.provider),
        Step.SUBMIT,
        sort_at=admission.sort_at(tx.now, row["priority"]),
        waiting=True,
        fallback=chain.has_fallback,
        user_id=row["user_id"],
    )
    queue.enqueue(tx, job)


def _asked(request: GenerationCreate, image: StoredImage | None, last_image: StoredImage | None) -> Row:
    """The columns that a request fills."""
    hook = request.webhook
    return {
        "client_id": request.generation_id,
        "request_hash": request.fingerprint,
        "user_id": request.user_id,
        "prompt": request.prompt,
        "parameters": json.dumps(request.stored_parameters()),
        "labels": json.dumps(request.metadata),
        "priority": request.priority,
        "input_key": image.key if image else None,
        "input_sha256": image.sha256 if image else None,
        "input_type": image.mime_type if image else None,
        "last_input_key": last_image.key if last_image else None,
        "last_input_sha256": last_image.sha256 if last_image else None,
        "last_input_type": last_image.mime_type if last_image else None,
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
    if row["deleted_at"] is not None:
        raise Deleted(row)
    if row["request_hash"] != request.fingerprint:
        raise Conflict("Idempotency-Key" if by_key else "generationId", row)
    return row


def repeated(tx: Tx, tenant: str, request: GenerationCreate, idempotency_key: str | None) -> Row | None:
    """The earlier generation that this request repeats, if there is one. Raises Conflict when it differs, or
    Deleted."""
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
