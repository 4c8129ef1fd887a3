"""What can go wrong at the door of the database.

::

    DatabaseError
    +-- NothingWritten       safe to repeat after a pause
    |   +-- DatabaseBusy         others hold a lock for too long
    |   +-- DatabaseUnavailable  it cannot be reached, went away during the work, or has no space left
    |   +-- WriterFull           too much work of our own is waiting for a commit
    +-- CommitUnknown        the answer to COMMIT was lost: the work is either wholly there or not at all
    +-- SchemaBehind         the tables are older (or newer) than this code
    +-- SchemaLocked         a migration waited for others in vain; it may be repeated
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError


class DatabaseError(Exception):
    """Anything that the database door raises by itself."""


class NothingWritten(DatabaseError):
    """Nothing of the work was written. Safe to repeat after a pause."""


class DatabaseBusy(NothingWritten):
    """Others hold the lock that the work needs."""


class DatabaseUnavailable(NothingWritten):
    """The database cannot be reached, went away during the work, or has no space left."""


class WriterFull(NothingWritten):
    """Too much is waiting for a commit in this process."""


class CommitUnknown(DatabaseError):
    """COMMIT was sent and its answer was lost. Only idempotent work may be repeated."""


class SchemaBehind(DatabaseError):
    """The schema does not fit this version; the message says which command mends it."""


class SchemaLocked(DatabaseError):
    """A migration waited for its locks in vain. It may be repeated, and goes on where it was."""


_SQLITE_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_SQLITE_ILL = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
_POSTGRES_BUSY = frozenset({"55P03", "40P01", "40001"})
"""lock_not_available, deadlock_detected, serialization_failure."""
_POSTGRES_ILL = ("08", "25006", "53", "57", "58", "XX")
"""Connection, read-only (a standby after a failover), resources, operator intervention, system and internal errors:
https://www.postgresql.org/docs/15/errcodes-appendix.html."""


def translate(error: DBAPIError) -> Exception:
    """A driver's error before COMMIT in our words; one that is the statement's own fault stays as it is."""
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        if code in _SQLITE_BUSY:
            return DatabaseBusy(f"the database is locked by another process: {original}")
        return DatabaseUnavailable(f"the database is unwell: {original}") if code in _SQLITE_ILL else error
    state = getattr(original, "sqlstate", None)
    if state in _POSTGRES_BUSY:
        return DatabaseBusy(f"others hold the rows that this needs: {original}")
    lost = state is None and isinstance(error, OperationalError | InterfaceError)
    if error.connection_invalidated or lost or (state or "").startswith(_POSTGRES_ILL):
        return DatabaseUnavailable(f"the database cannot be reached: {original}")
    return error


def unavailable(error: DBAPIError) -> DatabaseError:
    """A driver's error where no statement of ours can be at fault."""
    reason = translate(error)
    return reason if isinstance(reason, DatabaseError) else DatabaseUnavailable(str(error.orig))
