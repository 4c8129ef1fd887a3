"""From a SQLite file to an empty PostgreSQL: every row, in one transaction, counted on both sides.

The file is held alone while it is read, and says afterwards that it was moved, before PostgreSQL is told to commit: two
databases with the same work would pay twice. Who died in between finds the file moved and PostgreSQL empty, and may
begin again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, Table, Text, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

import pipeline.models  # noqa: F401 - declares the tables
from pipeline.db.errors import CommitUnknown, DatabaseError
from pipeline.db.migrate import MOVED, head

BATCH = 2_000
ALIVE_MS = 90_000
"""A worker that signed in within this time is alive, or was killed just now."""
LEFT = {"worker", "clock"}
"""Tables that speak of one host and its processes."""
SESSION = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0", "synchronous_commit": "on"}
"""It takes long, and the file says for ever that it was moved: what was committed must not be forgotten."""
MAGIC = b"SQLite format 3\x00"


class CannotMove(DatabaseError):
    """Nothing was moved; the message says why."""


@dataclass(slots=True)
class Moved:
    """A table that was copied. `mended` counts texts with a NUL, which PostgreSQL cannot keep: it became U+FFFD."""

    table: str
    rows: int = 0
    mended: int = 0
    sums: list[int] = field(default_factory=list)


@contextmanager
def alone(file: Path, *, again: bool = False) -> Iterator[sqlite3.Connection]:
    """The file, which nobody else has open, in a transaction. Raises CannotMove.

    Only who is alone may leave the write-ahead log, since every connection to it holds a lock for as long as it lives.
    `again` takes a file that says that it was moved.
    """
    if not file.is_file() or _begins(file) != MAGIC:
        raise CannotMove(f"{file} is no SQLite database")
    source = sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=1)
    try:
        source.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            source.execute("PRAGMA journal_mode=DELETE").fetchone()
            source.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise CannotMove(f"{file} is in use ({error}): stop every `dailies` process on it first") from None
        _require_fit(source, file, again)
        _require_stopped(source)
        yield source
    finally:
        source.close()


def _begins(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC))


def _require_fit(source: sqlite3.Connection, file: Path, again: bool) -> None:
    if not source.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        raise CannotMove(f"{file} has no tables of dailies")
    (found,) = source.execute("SELECT version_num FROM alembic_version").fetchone()
    if found.startswith(MOVED) and not again:
        raise CannotMove(
            f"{file} was moved before: two databases with the same work would pay twice. If that import did not end"
            " well and its PostgreSQL database is gone or empty, say --again"
        )
    if found.removeprefix(MOVED) != head():
        raise CannotMove(
            f"{file} is at revision {found}, this version needs {head()}:"
            f" run `DATABASE_URL=sqlite:///{file} dailies migrate` first"
        )
    (health,) = source.execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        raise CannotMove(f"{file} is damaged ({health}): restore a backup first")


def _require_stopped(source: sqlite3.Connection) -> None:
    since = int(time.time() * 1000) - ALIVE_MS
    alive = source.execute("SELECT host, pid, seen_at FROM worker WHERE seen_at > ?", (since,)).fetchone()
    if alive:
        raise CannotMove(
            f"a worker (host {alive[0]}, pid {alive[1]}) signed in {(since + ALIVE_MS - alive[2]) // 1000} s ago:"
            f" stop it (or wait {ALIVE_MS // 1000} s after it was killed); if this is a copy, stop the original"
        )


def move(
    source: sqlite3.Connection, target: Engine, *, told: Callable[[Moved], None], dry_run: bool = False
) -> list[Moved]:
    """Copy every table out of `alone(file)`, check it, and say in the file that it was moved. `told` hears of progress.

    Raises CannotMove, after which nothing has changed on either side.
    """
    with target.connect() as connection:
        _reserve(connection)
        moved = [_copy(source, connection, table, told) for table in _tables()]
        for each, table in zip(moved, _tables(), strict=True):
            _compare(connection, table, each)
            _set_sequence(connection, table)
        if dry_run:
            connection.rollback()
            return moved
        source.execute("UPDATE alembic_version SET version_num = ?", (f"{MOVED}{head()}",))
        source.execute("COMMIT")
        try:
            connection.commit()
        except DBAPIError as error:
            raise CommitUnknown(
                f"the answer to COMMIT was lost ({error.orig}): if the PostgreSQL database has rows, all has arrived;"
                " if it is empty, say --again"
            ) from error
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    return moved


def _tables() -> list[Table]:
    return [table for table in SQLModel.metadata.sorted_tables if table.name not in LEFT]


def _reserve(connection: Connection) -> None:
    """Lock every table against other writers, and refuse unless all are empty."""
    for name, value in SESSION.items():
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
    names = [table.name for table in SQLModel.metadata.sorted_tables]
    try:
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(names)} IN SHARE ROW EXCLUSIVE MODE NOWAIT")
    except Exception as error:
        if getattr(getattr(error, "orig", None), "sqlstate", None) != "55P03":
            raise
        raise CannotMove("somebody works in the PostgreSQL database: stop every `dailies` process on it") from error
    for name in names:
        if connection.execute(text(f"SELECT 1 FROM {name} LIMIT 1")).first():
            raise CannotMove(
                f"the PostgreSQL database is not empty (table {name} has rows): nothing is merged."
                " Make a new database, run `dailies migrate` on it, and start no process before this is done"
            )


def _copy(source: sqlite3.Connection, connection: Connection, table: Table, told: Callable[[Moved], None]) -> Moved:
    columns = list(table.columns)
    names = ", ".join(f'"{column.name}"' for column in columns)
    moved = Moved(table.name, sums=[0] * (2 * len(columns)))
    released = _released([column.name for column in columns]) if table.name == "job" else None
    rows = source.execute(f"SELECT {names} FROM {table.name} ORDER BY rowid")
    driver: Any = connection.connection.dbapi_connection
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            while batch := rows.fetchmany(BATCH):
                for row in batch:
                    values = _clean(released(row) if released else row, moved)
                    _add(moved, columns, values)
                    copy.write_row(values)
                told(moved)
    except psycopg.Error as error:
        raise CannotMove(f"table {table.name} cannot be kept by PostgreSQL: {error}") from error
    return moved


def _released(names: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Jobs whose turn a killed process had not recorded come due when its lease would have ended, as in a rescue."""
    at = {name: number for number, name in enumerate(names)}

    def release(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[at["status"]] != "processing":
            return row
        values = list(row)
        values[at["status"]], values[at["scheduled_for"]] = "pending", row[at["locked_until"]]
        values[at["locked_by"]] = values[at["locked_until"]] = None
        return tuple(values)

    return release


def _clean(row: tuple[Any, ...], moved: Moved) -> tuple[Any, ...]:
    if not any(isinstance(value, str) and "\x00" in value for value in row):
        return row
    moved.mended += 1
    return tuple(value.replace("\x00", "\ufffd") if isinstance(value, str) else value for value in row)


def _add(moved: Moved, columns: Sequence[Column[Any]], row: tuple[Any, ...]) -> None:
    """Count a row, and of each of its columns what is there, and its sum: of numbers their value, of texts their
    length."""
    moved.rows += 1
    for number, (column, value) in enumerate(zip(columns, row, strict=True)):
        if value is not None:
            moved.sums[2 * number] += 1
            moved.sums[2 * number + 1] += _weight(column, value)


def _weight(column: Column[Any], value: Any) -> int:
    if isinstance(column.type, Integer | BigInteger):
        return int(value)
    return len(value) if isinstance(column.type, Text) else 0


def _compare(connection: Connection, table: Table, moved: Moved) -> None:
    """Raises CannotMove unless PostgreSQL counts what was read."""
    parts = ["count(*)"]
    for column in table.columns:
        name, kind = f'"{column.name}"', column.type
        weight = (
            name if isinstance(kind, Integer | BigInteger) else f"length({name})" if isinstance(kind, Text) else "0"
        )
        parts += [f"count({name})", f"coalesce(sum({weight}), 0)"]
    found = [int(value) for value in connection.execute(text(f"SELECT {', '.join(parts)} FROM {table.name}")).one()]
    if found != [moved.rows, *moved.sums]:
        raise CannotMove(f"table {table.name} does not arrive as it was read: {found} instead of {moved.sums}")


def _set_sequence(connection: Connection, table: Table) -> None:
    """New rows are numbered behind those that came."""
    key = list(table.primary_key.columns)
    if len(key) == 1 and isinstance(key[0].type, Integer | BigInteger):
        name = key[0].name
        connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', '{name}'), coalesce(max({name}), 1),"
            f" max({name}) IS NOT NULL) FROM {table.name}"
        )
