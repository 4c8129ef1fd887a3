"""The empty database of a drill, on the server that is in use. What is in the one in use is never touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from pipeline.db import Database
from pipeline.db.engine import make_engine
from pipeline.db.migrate import migrate
from pipeline.drill.crew import DrillError

INSUFFICIENT_PRIVILEGE = "42501"


@contextmanager
def own_database(url: str, folder: Path, name: str, *, keep: Callable[[], bool] = lambda: False) -> Iterator[str]:
    """The URL of a new, migrated database: a file in `folder`, or for PostgreSQL a database `name` on the server of
    `url`, which goes with the drill unless `keep`, asked at its end, says otherwise. Raises DrillError where none can
    be made.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        own = f"sqlite:///{folder / 'drill.db'}"
        _migrate(own)
        yield own
        return
    engine = make_engine(url)
    try:
        _create(engine, parsed, name)
        try:
            own = parsed.set(database=name).render_as_string(hide_password=False)
            _migrate(own)
            yield own
        finally:
            if not keep():
                _run(engine, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        engine.dispose()


def _create(engine: Engine, url: URL, name: str) -> None:
    try:
        _run(engine, f'CREATE DATABASE "{name}"')
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
            raise DrillError(f"a drill makes a database of its own, which failed: {error.orig}") from None
        raise DrillError(
            f"a drill makes a database of its own beside {url.database!r}, and this user may not: {error.orig}."
            f" ALTER ROLE {url.username} CREATEDB allows it"
        ) from None


def _run(engine: Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def _migrate(url: str) -> None:
    db = Database(url)
    try:
        migrate(db.engine)
    finally:
        db.close()
