"""Migrations: alembic scripts inside the package, forward only, and safe while processes of the version before work.
Alembic is imported only when there is something to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from pipeline.db.errors import DatabaseBusy, SchemaBehind, SchemaLocked, translate

_SCRIPTS = Path(__file__).parent / "migrations"

MOVED = "moved-"
"""Before the revision of a SQLite file that `dailies import-sqlite` has read: nothing may work on it any more."""
LOCK = 724501
PATIENCE = 60.0
LOCK_WAIT = "1s"
RETRY_SECONDS = 0.2


def head() -> str:
    """The newest revision that this code knows: the largest number at the front of a script's name."""
    return max(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


def current(engine: Engine) -> str | None:
    """The revision of the database, or None when it is empty."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: Engine, *, patience: float = PATIENCE) -> bool:
    """Bring the schema to `head`; True if anything was done. Two processes may call it at once, and others may work
    meanwhile.

    On PostgreSQL it waits for the locks that it needs for `patience` seconds in all, never for long at a time. Raises
    SchemaLocked then; what was done until then is kept, and the next call goes on.
    """
    found = current(engine)
    if found == head():
        return False
    _refuse_moved(found)
    _refuse_ahead(found)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(connection)
            connection.commit()
        return True
    deadline = monotonic() + patience
    with _alone(engine, deadline):
        while current(engine) != head():
            try:
                with engine.connect() as connection:
                    event.listen(connection, "begin", _be_short)
                    upgrade(connection)
            except DBAPIError as error:
                _bear(engine, error, deadline)
    return True


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the scripts up to a revision over a connection, which is left open."""
    from alembic import command  # noqa: PLC0415 - a third of a second of imports, needed once per version
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _be_short(connection: Connection) -> None:
    """Whoever waits for a table's lock lets nobody else pass: never for longer than our own writers bear. The work
    itself takes as long as a table is large, whatever the role's statement_timeout says."""
    connection.exec_driver_sql(
        f"SELECT set_config('lock_timeout', '{LOCK_WAIT}', true), set_config('statement_timeout', '0', true)"
    )


def _bear(engine: Engine, error: DBAPIError, deadline: float) -> None:
    """Try again after a pause if others hold a lock; else, or when time is up, raise."""
    ours = translate(error)
    if not isinstance(ours, DatabaseBusy):
        raise error
    if monotonic() > deadline:
        raise SchemaLocked(
            f"the schema stays at revision {current(engine)}: other transactions hold its tables ({_holders(engine)})."
            " End them, or wait for them, then run `dailies migrate` again; it goes on where it is now"
        ) from error
    sleep(RETRY_SECONDS)


@contextmanager
def _alone(engine: Engine, deadline: float) -> Iterator[None]:
    """While no other process migrates.

    The lock is asked for and never waited for: a waiting statement would hold a snapshot, and CREATE INDEX CONCURRENTLY
    of the one that migrates would wait for it in turn. It belongs to a transaction and not to a session, so that a
    pooler between us and the server makes no difference.
    """
    with engine.connect() as connection:
        while True:
            connection.exec_driver_sql("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({LOCK})").scalar():
                break
            connection.rollback()
            if monotonic() > deadline:
                raise SchemaLocked("another process is migrating this database; wait for it, then run it again")
            sleep(RETRY_SECONDS)
        yield
        connection.rollback()


_OLDEST = """
SELECT pid, coalesce(nullif(application_name, ''), 'a client without a name') AS name, state,
  CAST(extract(epoch FROM clock_timestamp() - xact_start) AS int) AS seconds
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = pg_stat_activity.pid AND l.locktype = 'advisory'
    AND l.objid = :lock)
ORDER BY xact_start LIMIT 3"""


def _holders(engine: Engine) -> str:
    """Whose transactions are open for longest, in words."""
    with engine.connect() as connection:
        rows = connection.execute(text(_OLDEST), {"lock": LOCK}).all()
    words = [f"{row.name}, pid {row.pid}, {row.state}, open for {row.seconds} s" for row in rows]
    return "; ".join(words) or "none is open now"


def require_head(engine: Engine) -> None:
    """Raises SchemaBehind unless the schema is exactly what this code was written for."""
    found = current(engine)
    if found != head():
        _refuse_ahead(found)
        state = "is empty" if found is None else f"is at revision {found}, this version needs {head()}"
        raise SchemaBehind(f"the database {state}: run `dailies migrate`")


def _refuse_ahead(found: str | None) -> None:
    if found is not None and found > head():
        raise SchemaBehind(
            f"the database is at revision {found}, and this version knows only {head()}: a newer one has migrated"
            " it; install that version here, too (or a later one)"
        )


def _refuse_moved(found: str | None) -> None:
    if found is not None and found.startswith(MOVED):
        raise SchemaBehind(
            "this database was moved to PostgreSQL by `dailies import-sqlite`, and what is done here would be done"
            " twice: set DATABASE_URL to the PostgreSQL database"
        )
