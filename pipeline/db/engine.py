"""Engines: what has to be said to SQLite and to PostgreSQL before the first statement."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

from pipeline.db.errors import DatabaseError

BUSY_MS = 10_000
MIN_SQLITE = (3, 35, 0)
"""UPDATE ... RETURNING came with 3.35 (https://sqlite.org/lang_returning.html)."""


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///file` or `postgresql://...`. Raises DatabaseError with the mend in words."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed)
    raise DatabaseError(f"DATABASE_URL starts with {parsed.drivername!r}; use sqlite:///path or postgresql://...")


def _sqlite(url: URL) -> Engine:
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise DatabaseError(
            f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed (a newer Python has one)"
        )
    if not url.database or url.database == ":memory:":
        raise DatabaseError("an in-memory database would lose work: name a file, such as sqlite:///data/dailies.db")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, paramstyle="named", pool_size=8, connect_args={"timeout": BUSY_MS / 1000})
    event.listen(engine, "connect", _sqlite_connect)
    return engine


def _sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    """WAL for readers beside the writer; FULL since a forgotten intent to pay would be paid twice."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-8000"):
        connection.execute(f"PRAGMA {pragma}")


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(url.set(drivername="postgresql+psycopg"), pool_size=4, max_overflow=0, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise DatabaseError("PostgreSQL needs the extra: pip install 'dailies[postgres]'") from error
