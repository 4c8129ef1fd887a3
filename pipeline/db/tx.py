"""A transaction as our SQL sees it: named parameters, dictionaries back, one clock reading."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from pipeline.telemetry import emit

Row = dict[str, Any]

_NAMED = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


@lru_cache(maxsize=512)
def _pyformat(sql: str) -> str:
    return _NAMED.sub(r"%(\1)s", sql.replace("%", "%%"))


class Tx:
    """An open transaction.

    Attributes:
        now: the database's clock when the transaction began, in milliseconds since 1970.
        postgres: whether this is PostgreSQL; elsewhere it is SQLite.
        connection: SQLAlchemy's connection, for reads through the models.
    """

    __slots__ = ("_events", "connection", "now", "postgres")

    def __init__(self, connection: Connection, now: int, *, postgres: bool) -> None:
        self.connection = connection
        self.now = now
        self.postgres = postgres
        self._events: list[tuple[str, int, dict[str, Any]]] = []

    def emit(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Tell an event once the commit is done, and never if it is not: what is counted so is counted once."""
        self._events.append((event, level, fields))

    def tell(self) -> None:
        """Tell what was to be told after the commit; the writer calls it."""
        while self._events:
            event, level, fields = self._events.pop(0)
            emit(event, level=level, **fields)

    @property
    def for_update(self) -> str:
        """Appended to a SELECT that must hold its row; SQLite's writer holds everything already."""
        return " FOR UPDATE" if self.postgres else ""

    @property
    def skip_locked(self) -> str:
        """Appended to a SELECT of work that others may be taking."""
        return " FOR UPDATE SKIP LOCKED" if self.postgres else ""

    @property
    def among(self) -> str:
        """A condition on a column, whose parameter `ids` is `of(...)`: any number of values in one statement."""
        return "= ANY(:ids)" if self.postgres else "IN (SELECT value FROM json_each(:ids))"

    def of(self, ids: Sequence[str] | Sequence[int]) -> object:
        """The values of `among`."""
        return list(ids) if self.postgres else json.dumps(list(ids))

    def each(self, parameter: str) -> str:
        """For FROM: the members of the JSON object `:parameter` as rows `key`, `value`; so many values, one
        statement."""
        return f"json_each_text(CAST(:{parameter} AS json))" if self.postgres else f"json_each(:{parameter})"

    def all(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return its rows. Parameters are written `:name`."""
        text = _pyformat(sql) if self.postgres else sql
        result = self.connection.exec_driver_sql(text, dict(parameters or {}))
        if not result.returns_rows:
            return []
        names = list(result.keys())
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def one(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """The first row, or None."""
        rows = self.all(sql, parameters)
        return rows[0] if rows else None

    def value(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, parameters)
        return next(iter(row.values())) if row else None

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run one statement and return how many rows it changed."""
        text = _pyformat(sql) if self.postgres else sql
        return self.connection.exec_driver_sql(text, dict(parameters or {})).rowcount

    def insert(
        self, table: str, values: Mapping[str, Any], *, on_conflict: str = "", returning: str = ""
    ) -> Row | None:
        """Insert one row of named values; `on_conflict` is the clause's tail, such as `DO NOTHING`."""
        columns = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        if on_conflict:
            sql += f" ON CONFLICT {on_conflict}"
        if returning:
            return self.one(f"{sql} RETURNING {returning}", values)
        self.run(sql, values)
        return None

    def update(self, table: str, values: Mapping[str, Any], where: str, parameters: Mapping[str, Any]) -> int:
        """Update named columns where a condition holds; returns how many rows changed."""
        sets = ", ".join(f"{name} = :set_{name}" for name in values)
        bound = {f"set_{name}": value for name, value in values.items()} | dict(parameters)
        return self.run(f"UPDATE {table} SET {sets} WHERE {where}", bound)
