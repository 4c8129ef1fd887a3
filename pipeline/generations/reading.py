"""Finding generations: one by either id, a page of them, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, TextClause, text
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from pipeline.db import Row, Tx
from pipeline.lifecycle import GenerationStatus
from pipeline.models import Generation
from pipeline.schemas import OUR_PREFIX


class Deleted(Exception):
    """The generation was deleted: only its tombstone is left."""

    def __init__(self, row: Row) -> None:
        super().__init__(row["id"])
        self.row = row


def find(tx: Tx, tenant: str, reference: str) -> Row | None:
    """A generation by our id (`gen_...`) or by the app's own."""
    return tx.one(
        f"SELECT * FROM generation WHERE tenant_id = :tenant AND {_id_column(reference)} = :reference",
        {"tenant": tenant, "reference": reference},
    )


def find_any(tx: Tx, generation_id: str) -> Row | None:
    """A generation by our id, whoever's it is: for callers who prove that it was shown to them."""
    return tx.one("SELECT * FROM generation WHERE id = :id", {"id": generation_id})


def ended(tx: Tx, generation_ids: Sequence[str]) -> list[Row]:
    """Those of the named that have ended, whoever's they are."""
    return tx.all(
        f"SELECT * FROM generation WHERE id {tx.among} AND finished_at IS NOT NULL", {"ids": tx.of(generation_ids)}
    )


def _id_column(reference: str) -> str:
    return "id" if reference.startswith(OUR_PREFIX) else "client_id"


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to. `reference` is one of both ids; times in milliseconds since 1970; `deleted` lists
    tombstones too."""

    reference: str | None = None
    statuses: tuple[str, ...] = ()
    user_id: str | None = None
    provider: str | None = None
    model: str | None = None
    error_code: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    metadata: Mapping[str, str] | None = None
    deleted: bool = False


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
    if not filters.deleted:
        query = query.where(col(Generation.deleted_at).is_(None))
    if filters.statuses:
        query = query.where(col(Generation.status).in_(filters.statuses), *_follows(filters.statuses))
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


def _follows(statuses: tuple[str, ...]) -> list[ColumnElement[bool]]:
    """What is true of every generation in these statuses, said so that an index of few rows answers."""
    if set(statuses) <= _LIVING:
        return [col(Generation.finished_at).is_(None)]
    if set(statuses) == {GenerationStatus.FAILED}:
        return [col(Generation.error_code).is_not(None)]
    return []


_LIVING = {GenerationStatus.QUEUED, GenerationStatus.PROCESSING}


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


def counts(tx: Tx, since: int) -> dict[str, int]:
    """How many generations ended since a time, by status."""
    rows = tx.all(
        "SELECT status, count(*) AS n FROM generation"
        " WHERE finished_at >= :since AND finished_at IS NOT NULL GROUP BY status",
        {"since": since},
    )
    return {row["status"]: row["n"] for row in rows}
