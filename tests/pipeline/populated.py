"""A database as it is after a million generations, made by a few statements: what has ended, and a living crowd."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sqlalchemy import Column, Float, Integer, Table
from sqlmodel import SQLModel

from pipeline.db import Database, Tx

BIG = (
    "generation",
    "job",
    "submission",
    "timeline",
    "webhook_event",
    "webhook_delivery",
    "webhook_attempt",
    "callback",
)
LIVING = 100
"""Jobs of each step that are pending, and as many that are processing."""
WAITING = 1_000
NUMBER = "lpad(CAST(i AS text), 12, '0')"
TENANT = "CASE WHEN i % 10 = 7 THEN 'default' ELSE 'tenant_' || (i % 10) END"
SQLITE_NUMBER = "substr('000000000000' || i, -12)"


def populate(db: Database, ended: int) -> None:
    """Fill an empty database with `ended` generations that are over, each delivered, and with work in every state."""
    asyncio.run(db.write(lambda tx: _ended(tx, ended)))
    asyncio.run(db.write(_living))
    with db.engine.connect() as connection:
        if db.postgres:
            connection.exec_driver_sql("ANALYZE")
            connection.commit()


def believe(db: Database, factor: int) -> None:
    """PostgreSQL's planner is to believe that the large tables are so many times larger than they are; autovacuum is
    kept from looking again."""
    names = ", ".join(f"'{name}'" for name in BIG)
    with db.engine.begin() as connection:
        for name in BIG:
            connection.exec_driver_sql(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")
        connection.exec_driver_sql(
            f"UPDATE pg_class SET reltuples = reltuples * {factor} WHERE relname IN ({names}) OR oid IN"
            f" (SELECT indexrelid FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid WHERE c.relname IN ({names})"
            " AND indpred IS NULL)"
        )


def _ended(tx: Tx, rows: int) -> None:
    n = NUMBER if tx.postgres else SQLITE_NUMBER
    gen, one, five = f"'gen_' || {n}", "1000 + i", "'user_' || (i % 100)"
    _fill(tx, "generation", rows, {
        "id": gen, "tenant_id": TENANT, "client_id": f"'mine-' || {n}", "user_id": five, "provider": "'mock'",
        "status": "CASE WHEN i % 500 = 7 THEN 'failed' ELSE 'completed' END", "video_sha256": "'x'", "created_at": one,
        "error_code": "CASE WHEN i % 500 = 7 THEN 'moderated' END", "finished_at": one, "prompt": "'a red fox'",
        "generated_at": one, "accepted_at": "i", "run": "1", "labels": "'{}'", "parameters": "'{}'",
    })  # fmt: skip
    for kind, subject, lane in (
        ("generation", gen, "'provider:mock'"),
        ("delivery", f"'dlv_' || {n}", "'endpoint:wep_1'"),
    ):
        _fill(tx, "job", rows, {
            "kind": f"'{kind}'", "subject_id": subject, "tenant_id": TENANT, "lane": lane, "status": "'done'",
            "step": "'store'" if kind == "generation" else "'deliver'", "finished_at": one, "sort_at": "i",
        })  # fmt: skip
    _fill(tx, "submission", rows, {
        "id": f"'sub_' || {n}", "token": f"'sub_' || {n}", "generation_id": gen, "tenant_id": TENANT,
        "provider": "'mock'", "outcome": "'succeeded'", "operation_id": f"'op_' || {n}", "operation": "'{}'",
        "intended_at": one, "closed_at": one, "billed": "'yes'", "user_id": five, "run": "1",
    })  # fmt: skip
    for event in ("accepted", "completed"):
        _fill(tx, "timeline", rows, {"generation_id": gen, "tenant_id": TENANT, "event": f"'{event}'", "at": one})
    _fill(tx, "webhook_event", rows, {
        "id": f"'evt_' || {n}", "generation_id": gen, "tenant_id": TENANT, "terminal": "1", "body": "'{}'",
        "run": "1", "type": "'generation.completed'",
    })  # fmt: skip
    _fill(tx, "webhook_delivery", rows, {
        "id": f"'dlv_' || {n}", "event_id": f"'evt_' || {n}", "endpoint_id": "'wep_1'", "tenant_id": TENANT,
        "state": "CASE WHEN i % 1000 = 7 THEN 'dead' ELSE 'delivered' END", "finished_at": one, "secret_ref": "'own'",
    })  # fmt: skip
    _fill(tx, "webhook_attempt", rows, {
        "id": f"'att_' || {n}", "delivery_id": f"'dlv_' || {n}", "tenant_id": TENANT, "lane": "'endpoint:wep_1'",
        "at": one, "status": "200", "reason": "'answered'", "url": "'https://app.example/hook'",
    })  # fmt: skip
    _fill(tx, "callback", rows, {"id": f"'cb_' || {n}", "event_id": n, "provider": "'mock'", "generation_id": gen})


def _living(tx: Tx) -> None:
    n = NUMBER if tx.postgres else SQLITE_NUMBER
    user = "'user_' || (i % 20)"
    for place, step in enumerate(("submit", "poll", "store", "deliver", "resolve")):
        kind = "delivery" if step == "deliver" else "generation"
        lane = "'endpoint:wep_' || (i % 20)" if step == "deliver" else "'provider:' || (i % 3)"
        base = {"kind": f"'{kind}'", "tenant_id": "'default'", "lane": lane, "step": f"'{step}'", "user_id": user}
        for status, leased in (
            ("pending", {}),
            ("processing", {"locked_by": "'w0'", "locked_until": str(tx.now + 60_000)}),
        ):
            subject = f"'{status}_{place}_' || {n}"
            due = {"status": f"'{status}'", "subject_id": subject, "scheduled_for": "i", "sort_at": "i", "fence": "1"}
            _fill(tx, "job", LIVING, base | due | leased)
    _fill(tx, "job", WAITING, {
        "kind": "'generation'", "subject_id": f"'waiting_' || {n}", "tenant_id": "'default'", "user_id": user,
        "sort_at": "i", "lane": "'provider:' || (i % 3)", "status": "'waiting'", "step": "'submit'", "fence": "1",
    })  # fmt: skip
    _fill(tx, "job", LIVING, {
        "kind": "'generation'", "subject_id": f"'gen_dead_' || {n}", "tenant_id": "'default'", "lane": "'provider:1'",
        "status": "'dead'", "step": "'poll'", "finished_at": "i",
    })  # fmt: skip
    _fill(tx, "generation", WAITING, {
        "id": f"'waiting_' || {n}", "tenant_id": "'default'", "user_id": user, "provider": "'mock'",
        "status": "'queued'", "stage": "'waiting'", "prompt": "'a red fox'", "labels": "'{}'", "parameters": "'{}'",
    })  # fmt: skip
    _fill(tx, "webhook_delivery", LIVING, {
        "id": f"'dlv_later_' || {n}", "event_id": f"'evt_later_' || {n}", "endpoint_id": "'wep_' || (i % 20)",
        "tenant_id": "'default'", "state": "'pending'", "error_code": "'webhook_status'", "secret_ref": "'own'",
    })  # fmt: skip
    _fill(tx, "webhook_endpoint", 20, {"id": "'wep_' || i", "tenant_id": "'default'", "deleted_at": "NULL"})
    _fill(tx, "webhook_endpoint", 2, {"id": "'wep_gone_' || i", "tenant_id": "'default'", "deleted_at": "1"})


def _fill(tx: Tx, table: str, rows: int, values: Mapping[str, str]) -> None:
    """Insert rows; `values` are expressions over `i`, which counts from 1. What must be there and has no value is
    empty."""
    columns = {column.name: _empty(column) for column in _table(table).columns if _is_needed(column)} | dict(values)
    numbers = "generate_series(1, :rows) AS n(i)" if tx.postgres else "n"
    head = "" if tx.postgres else "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) "
    names = ", ".join(f'"{name}"' for name in columns)
    tx.run(f"{head}INSERT INTO {table} ({names}) SELECT {', '.join(columns.values())} FROM {numbers}", {"rows": rows})


def _table(name: str) -> Table:
    return SQLModel.metadata.tables[name]


def _is_needed(column: Column[object]) -> bool:
    numbered = column.primary_key and isinstance(column.type, Integer)
    return not column.nullable and column.server_default is None and not numbered


def _empty(column: Column[object]) -> str:
    return "0" if isinstance(column.type, Integer | Float) else "''"
