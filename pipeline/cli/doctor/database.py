"""Checks of the database: reachable, of this version, writable, in a place that suits it; and who works on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from pipeline import __version__, credentials
from pipeline.cli.doctor.disk import filesystem, size_text
from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.cli.effective import without_password
from pipeline.config import Settings
from pipeline.db import DatabaseError, Tx
from pipeline.db.engine import begin_postgres, make_engine
from pipeline.db.migrate import current, head
from pipeline.db.urls import parse_url

ALIVE_MS = 90_000
SLACK_SECONDS = 5.0
LEAST_FREE = 500_000_000
"""Bytes: below, SQLite's own growth is in danger, whatever happens to videos."""
QUICK_CHECK_BYTES = 256_000_000
"""Up to this size the whole file is checked, which takes about a second."""
MEND_REACH = "start the database, or correct DATABASE_URL"
MEND_BACKUP = "stop the service and restore the newest backup (docs/operations.md)"


@dataclass(slots=True)
class DatabaseFound:
    """The checks, and what other checks want to know."""

    checks: list[Check] = field(default_factory=list)
    keys_exist: bool = False


def examine_database(
    settings: Settings, *, mounts: str | None = None, clock: Callable[[], float] = time.time
) -> DatabaseFound:
    """Look at the database, changing nothing in it. `mounts` is /proc/mounts as text, read unless given. Blocking."""
    found = DatabaseFound()
    try:
        url = parse_url(settings.database)
    except (SQLAlchemyError, ValueError) as error:
        found.checks.append(failure("database", f"DATABASE_URL cannot be read: {error}", "correct DATABASE_URL"))
        return found
    if url.get_backend_name() == "sqlite" and url.database:
        found.checks += _place(Path(url.database), mounts)
        if not Path(url.database).exists():
            mend = "`dailies serve` makes it, or `dailies migrate`"
            found.checks.append(warning("database", f"{url.database} is not there yet", mend))
            return found
    name = without_password(url.render_as_string(hide_password=True))
    try:
        engine = make_engine(settings.database)
    except (DatabaseError, OSError) as error:
        found.checks.append(failure("database", str(error), "correct DATABASE_URL or DATA_DIR"))
        return found
    try:
        found.checks += _schema(engine, name, url)
        if not any(check.verdict == "failure" for check in found.checks):
            _look_inside(engine, found, clock)
    except SQLAlchemyError as error:
        found.checks.append(_refused(error, name, url))
    except DatabaseError as error:
        found.checks.append(failure("database", str(error), "name another database in DATABASE_URL"))
    finally:
        engine.dispose()
    return found


def _refused(error: SQLAlchemyError, name: str, url: URL) -> Check:
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    words = said[0] if said else type(error).__name__
    mend = MEND_REACH
    if url.get_backend_name() == "sqlite":
        damaged = "malformed" in words or "not a database" in words
        mend = MEND_BACKUP if damaged else "give the file and its folder to the user of this service"
    elif "password" in words or "role" in words or "authentication" in words:
        mend = "correct the user and the password in DATABASE_URL"
    elif "read-only" in words:
        mend = "name the primary server in DATABASE_URL: this is a standby, or forbids writing"
    elif "does not exist" in words:
        mend = "make the database (createdb), or correct the name in DATABASE_URL"
    return failure("database", f"{name} cannot be used: {words}", mend)


def _place(path: Path, mounts: str | None) -> Iterator[Check]:
    kind = filesystem(path, mounts)
    if kind is not None and kind.network:
        yield failure(
            "database",
            f"{path} is on a network filesystem ({kind.name}), where SQLite's locks do not hold: work would be lost",
            "put DATA_DIR on a disk of this machine, or use PostgreSQL (DATABASE_URL)",
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        yield failure("database", f"{size_text(free)} free at {folder}: SQLite soon cannot write", "free the disk")


def _schema(engine: Engine, name: str, url: URL) -> Iterator[Check]:
    found = current(engine)
    if found == head():
        yield ok("database", f"{name}: schema {found}")
        return
    state = "is empty" if found is None else f"has schema {found}, this version needs {head()}"
    if found is not None and found > head():
        yield failure("database", f"{name} {state}: a newer version has used it", "install the newer version here, too")
    elif url.get_backend_name() == "sqlite":
        yield warning("database", f"{name} {state}", "`dailies serve` brings it up, or `dailies migrate`")
    else:
        yield failure("database", f"{name} {state}", "dailies migrate")


def _look_inside(engine: Engine, found: DatabaseFound, clock: Callable[[], float]) -> None:
    if current(engine) != head():
        return
    postgres = engine.dialect.name == "postgresql"
    with engine.connect() as connection:
        before = clock()
        now = _begin(connection, postgres, before)
        tx = Tx(connection, now, postgres=postgres)
        tx.run("DELETE FROM worker WHERE id = ''")
        found.keys_exist = credentials.exists(tx)
        found.checks += _workers(tx)
        if postgres:
            found.checks.append(_clock(now / 1000, before, clock()))
        else:
            found.checks += _sqlite(tx)
        connection.rollback()


def _begin(connection: Connection, postgres: bool, now: float) -> int:
    """A transaction that could write; the database's time in milliseconds."""
    if postgres:
        return begin_postgres(connection)
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    return int(now * 1000)


def _clock(theirs: float, before: float, after: float) -> Check:
    off = theirs - (before + after) / 2
    if abs(off) <= SLACK_SECONDS + (after - before):
        return ok("clock", f"{abs(off):.1f} s from the database's")
    ahead = "behind" if off > 0 else "ahead of"
    return warning("clock", f"this machine is {abs(off):.0f} s {ahead} the database's clock", "set the clocks (NTP)")


def _sqlite(tx: Tx) -> Iterator[Check]:
    mode = tx.value("PRAGMA journal_mode")
    size = int(tx.value("PRAGMA page_count")) * int(tx.value("PRAGMA page_size"))
    if mode != "wal":
        yield failure("database", f"SQLite is in mode {mode}, not WAL", "put DATA_DIR on a disk of this machine")
    if size <= QUICK_CHECK_BYTES and (damage := tx.value("PRAGMA quick_check(1)")) != "ok":
        yield failure("database", f"the file is damaged: {damage}", MEND_BACKUP)


def _workers(tx: Tx) -> Iterator[Check]:
    alive = tx.all("SELECT * FROM worker WHERE seen_at > :since", {"since": tx.now - ALIVE_MS})
    waiting = tx.value("SELECT count(*) FROM job WHERE status IN ('waiting', 'pending', 'processing')")
    others = sorted({row["version"] for row in alive} - {__version__})
    if not alive:
        judge = failure if waiting else warning
        what = f"none was seen in the last {ALIVE_MS // 1000} s" + (f" and {waiting} jobs wait" if waiting else "")
        yield judge("worker", what, "start `dailies serve`, or `dailies worker`")
    elif others:
        what = f"{len(alive)} alive, some of version {', '.join(others)}; this is {__version__}"
        yield warning("worker", what, "restart them with this version")
    else:
        yield ok("worker", f"{len(alive)} alive")
