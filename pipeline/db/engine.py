"""Engines: what has to be said to SQLite and to PostgreSQL before the first statement."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

from pipeline.db.errors import DatabaseError

BUSY_MS = 10_000
MIN_SQLITE = (3, 35, 0)
"""UPDATE ... RETURNING came with 3.35 (https://sqlite.org/lang_returning.html)."""


POSTGRES = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "dailies",
}
"""A server that vanished without a word must not hold the one writer for the quarter of an hour that TCP would wait."""

BEGIN_POSTGRES = """
SELECT set_config('lock_timeout', '2s', true),
  set_config('idle_in_transaction_session_timeout', '10s', true),
  set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
    ELSE current_setting('synchronous_commit') END, true),
  extract(epoch FROM clock_timestamp())"""
"""In one round trip: nobody waits long for a lock; a process that is stopped in the middle does not hold its locks for
ever; no server setting makes us forget an intent to pay; and the clock, which unlike now() is not frozen."""


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
    """WAL for readers beside the writer; FULL since a forgotten intent to pay would be paid twice.

    SQLite calls no busy handler while a new file is switched to WAL, so two processes that start at once are let wait
    here.
    """
    connection.isolation_level = None
    deadline = monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(0.005)
        else:
            break
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-8000"):
        connection.execute(f"PRAGMA {pragma}")


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=4,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={name: value for name, value in POSTGRES.items() if name not in url.query},
        )
    except ModuleNotFoundError as error:
        raise DatabaseError("PostgreSQL needs the extra: pip install 'dailies[postgres]'") from error


def begin_postgres(connection: Connection) -> int:
    """Open a transaction as it should be; returns the server's clock in milliseconds."""
    row = connection.exec_driver_sql(BEGIN_POSTGRES).one()
    return int(float(row[3]) * 1000)
