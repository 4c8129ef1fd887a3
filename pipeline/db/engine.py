"""Engines: what has to be said to SQLite and to PostgreSQL before the first statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext

from pipeline.db.errors import DatabaseError
from pipeline.db.urls import parse_url

BUSY_MS = 10_000
LOOK_AGAIN = 0.002
"""Seconds."""
MIN_SQLITE = (3, 35, 0)
"""UPDATE ... RETURNING came with 3.35 (https://sqlite.org/lang_returning.html)."""


POSTGRES = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "dailies",
    "client_encoding": "utf8",
}
"""A server that vanished without a word must not hold the one writer for the quarter of an hour that TCP would wait."""

BEGIN_POSTGRES = """
SELECT set_config('lock_timeout', '2s', true), set_config('jit', 'off', true),
  set_config('idle_in_transaction_session_timeout', '5s', true),
  set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
    ELSE current_setting('synchronous_commit') END, true),
  extract(epoch FROM clock_timestamp())"""
"""In one round trip: nobody waits long for a lock; a process that is stopped in the middle holds its locks for half a
lease, so that another's renewal comes in time; nothing is compiled to machine code (50 ms for what takes 3 ms); no
server setting makes us forget an intent to pay; and the clock, which unlike now() is not frozen."""


WRITERS = 2
READERS = 2
"""Connections of a process, whatever it holds in flight: with the listener's they are five."""
POOL_SECONDS = 10
READ_ONLY = "25006"
"""read_only_sql_transaction: the server has become a standby, or was made one by hand."""


def make_engine(url: str, *, pooled: Callable[[bool], None] = lambda _: None, setting: str = "DATABASE_URL") -> Engine:
    """An engine for `sqlite:///file` or `postgresql://...`, several hosts included.

    `pooled` is told of every new connection whether a pooler such as PgBouncer stands between us and PostgreSQL;
    `setting` is where the URL comes from. Raises DatabaseError with the mend in words.
    """
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise DatabaseError(f"{setting} cannot be read: {error}") from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed, pooled)
    raise DatabaseError(f"{setting} starts with {parsed.drivername!r}; use sqlite:///path or postgresql://...")


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


def _postgres(url: URL, pooled: Callable[[bool], None]) -> Engine:
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=WRITERS + READERS,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",  # whatever the role has: under SERIALIZABLE a queue would only retry
            connect_args={name: value for name, value in POSTGRES.items() if name not in url.query},
        )
    except ModuleNotFoundError as error:
        raise DatabaseError("PostgreSQL needs the extra: pip install 'dailies[postgres]'") from error

    def connected(connection: Any, _record: object) -> None:
        pooled(_postgres_connect(connection))

    event.listen(engine, "connect", connected)
    event.listen(engine, "handle_error", _forget_read_only)
    return engine


def _postgres_connect(connection: Any) -> bool:
    """Behind a pooler the next transaction may meet another server process: none may rely on what was prepared before.
    Whether there is one. Raises DatabaseError where not every text could be kept."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in {"UTF8", None}:
        raise DatabaseError(
            f"the PostgreSQL database keeps its texts as {encoding}, which cannot hold every prompt: make a new one"
            " with `CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`"
        )
    connection.autocommit = True
    pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    connection.autocommit = False
    if behind_pooler(connection, pid):
        connection.prepare_threshold = None
        return True
    return False


def behind_pooler(connection: Any, pid: int) -> bool:
    """Whether the server process that answers is not the one that the start of the connection named: a pooler hands
    out a cancel key of its own (https://www.pgbouncer.org/features.html)."""
    named: int = connection.info.backend_pid
    return named != pid


def _forget_read_only(context: ExceptionContext) -> None:
    """After a failover without a restart, connections still reach the old primary: all are made anew."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def listening_arguments(url: str, setting: str = "DATABASE_URL") -> dict[str, Any]:
    """What psycopg needs for a connection outside of the pool. Raises DatabaseError as `make_engine` does."""
    engine = make_engine(url, setting=setting)
    _, arguments = engine.dialect.create_connect_args(engine.url)
    return POSTGRES | dict(arguments)


def begin_postgres(connection: Connection) -> int:
    """Open a transaction as it should be; returns the server's clock in milliseconds."""
    row = connection.exec_driver_sql(BEGIN_POSTGRES).one()
    return int(float(row[-1]) * 1000)


def begin_sqlite(connection: Connection) -> None:
    """Take the one lock of the file, for up to BUSY_MS. Raises DBAPIError.

    SQLite's own waiting looks only ten times a second in the end, and so misses the moments in which others let go:
    under a storm of short locks it waited 11 s where the longest lock was 2 s.
    """
    driver: Any = connection.connection.dbapi_connection
    deadline = monotonic() + BUSY_MS / 1000
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                sleep(LOOK_AGAIN)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
