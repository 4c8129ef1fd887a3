"""The database: one door for the event loop, one writer that groups commits, and what differs between SQLite and
PostgreSQL."""

from pipeline.db.database import Database
from pipeline.db.errors import (
    CommitUnknown,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    NothingWritten,
    SchemaBehind,
    SchemaLocked,
    WriterFull,
)
from pipeline.db.tx import Row, Tx

__all__ = [
    "CommitUnknown",
    "Database",
    "DatabaseBusy",
    "DatabaseError",
    "DatabaseUnavailable",
    "NothingWritten",
    "Row",
    "SchemaBehind",
    "SchemaLocked",
    "Tx",
    "WriterFull",
]
