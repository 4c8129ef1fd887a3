"""The database as a command meets it: its schema, and what to say when it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import SQLAlchemyError

from pipeline.cli.base import CommandError
from pipeline.cli.effective import without_password
from pipeline.config import Settings, SettingsError
from pipeline.db import Database, DatabaseError
from pipeline.db.migrate import current, head
from pipeline.db.migrate import migrate as apply_migrations


@contextmanager
def guarded() -> Iterator[None]:
    """Turn what keeps a process from starting into a CommandError without a traceback."""
    try:
        yield
    except (SettingsError, DatabaseError) as error:
        raise CommandError(str(error)) from None
    except SQLAlchemyError as error:
        raise CommandError(f"the database cannot be used: {getattr(error, 'orig', None) or error}") from None
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise CommandError(f"DATA_DIR cannot be used: {error.filename}: {error.strerror}") from None


def migrate_schema(settings: Settings) -> tuple[str, str | None, str | None]:
    """Bring the schema to head: the database's URL without its password, the revision before, and after.

    Where a pooler is found, past it if DATABASE_LISTEN_URL leads there: what is set for a session here, such as how
    long to wait for a lock, would be set for whoever comes next.
    """
    db, url = Database(settings.database), settings.database
    try:
        before = current(db.engine)
        if db.pooled and settings.database_listen_url:
            db.close()
            db, url = Database(settings.database_listen_url), settings.database_listen_url
            _require_same(before, current(db.engine))
        elif db.pooled and before != head():
            click.echo("DATABASE_URL leads to a pooler: better migrate at PostgreSQL itself", err=True)
        apply_migrations(db.engine)
        return without_password(url), before, current(db.engine)
    finally:
        db.close()


def _require_same(pooled: str | None, direct: str | None) -> None:
    if pooled != direct:
        raise CommandError(
            f"DATABASE_URL and DATABASE_LISTEN_URL lead to different databases: their schemas are {pooled or 'empty'}"
            f" and {direct or 'empty'}"
        )
