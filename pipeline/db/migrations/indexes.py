"""Indexes that are made and dropped while processes work: what a migration must not do in a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

PATIENCE = "5s"
"""So long PostgreSQL waits for each older transaction before it gives up; the migration is then repeated."""


def make(name: str, table: str, columns: Sequence[str], where: str | None = None) -> None:
    """Make an index beside working processes. What an earlier try left half built is dropped first."""
    condition = None if where is None else sa.text(where)
    if not _postgres():
        op.create_index(name, table, list(columns), sqlite_where=condition)
        return
    with beside():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.create_index(name, table, list(columns), postgresql_where=condition, postgresql_concurrently=True)


def drop(name: str, table: str) -> None:
    """Drop an index beside working processes; one that an earlier try dropped is no error."""
    if not _postgres():
        op.drop_index(name, table)
        return
    with beside():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"


@contextmanager
def beside() -> Iterator[None]:
    """Each statement in a commit of its own, as CONCURRENTLY must be; what the script did before is committed, so it
    must bear to be done again. SQLite goes on in its transaction."""
    if not _postgres():
        yield
        return
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{PATIENCE}'")
        op.execute("SET statement_timeout = 0")
        try:
            yield
        finally:
            op.execute("RESET lock_timeout")
            op.execute("RESET statement_timeout")
