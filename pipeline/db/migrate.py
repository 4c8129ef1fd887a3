"""Migrations: alembic scripts inside the package, forward only. Alembic is imported only when there is something to
do."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from pipeline.db.errors import SchemaBehind

_SCRIPTS = Path(__file__).parent / "migrations"


def head() -> str:
    """The newest revision that this code knows: the largest number at the front of a script's name."""
    return max(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


def current(engine: Engine) -> str | None:
    """The revision of the database, or None when it is empty."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: Engine) -> bool:
    """Bring the schema to `head`; True if anything was done. Two processes may call it at once."""
    if current(engine) == head():
        return False
    from alembic import command  # noqa: PLC0415 - a third of a second of imports, needed once per version
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(724501)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    return True


def require_head(engine: Engine) -> None:
    """Raises SchemaBehind unless the schema is exactly what this code was written for."""
    found = current(engine)
    if found != head():
        state = "is empty" if found is None else f"is at revision {found}, this version needs {head()}"
        raise SchemaBehind(f"the database {state}: run `dailies migrate`")
