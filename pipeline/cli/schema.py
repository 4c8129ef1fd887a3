"""The database as a command meets it: its schema, and what to say when it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from pipeline.cli.base import CommandError
from pipeline.cli.effective import without_password
from pipeline.config import Settings, SettingsError
from pipeline.db import Database, DatabaseError
from pipeline.db.migrate import current
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
    """Bring the schema to head: the database's URL without its password, the revision before, and after."""
    db = Database(settings.database)
    try:
        before = current(db.engine)
        apply_migrations(db.engine)
        return without_password(settings.database), before, current(db.engine)
    finally:
        db.close()
