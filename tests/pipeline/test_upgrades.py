"""Migrations beside working processes: the version before goes on, nobody waits for long, what failed is repeated."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from pipeline.db import Database, SchemaLocked
from pipeline.db import migrate as migrating
from pipeline.db.migrate import current, head, migrate
from tests.pipeline.engines import Place, PostgresServer
from tests.pipeline.recorded import replay

BEFORE = "0004"
LIVES: dict[str, Any] = json.loads((Path(__file__).parent / "recorded_0004.json").read_text())


@pytest.fixture(params=["sqlite", "postgres"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database at the schema of the version before."""
    if request.param == "sqlite":
        place = Place(f"sqlite:///{tmp_path / 'before.db'}")
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        place = Place(server.url(server.create()))
    db = place.open()
    with db.engine.connect() as connection:
        migrating.upgrade(connection, BEFORE)
        connection.commit()
    yield db
    place.close()


@pytest.fixture
def old_postgres(postgres_server: PostgresServer) -> Iterator[Database]:
    place = Place(postgres_server.url(postgres_server.create()))
    db = place.open()
    with db.engine.connect() as connection:
        migrating.upgrade(connection, BEFORE)
    yield db
    place.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_the_version_before_goes_on_while_the_schema_is_migrated(before: Database, share: float) -> None:
    life = LIVES["postgres" if before.postgres else "sqlite"]
    at = int(len(life["groups"]) * share)
    with before.engine.connect() as connection:
        replay(connection, life, slice(0, at))
        connection.rollback()
    migrate(before.engine)
    with before.engine.connect() as connection:
        replay(connection, life, slice(at, None))
    ends = before.read_now(lambda tx: tx.all("SELECT status FROM generation ORDER BY id"))
    assert [row["status"] for row in ends] == ["completed", "completed", "failed", "cancelled"]
    assert before.read_now(lambda tx: tx.value("SELECT count(*) FROM job WHERE finished_at IS NULL")) == 0
    sent = before.read_now(lambda tx: tx.all("SELECT state, attempts FROM webhook_delivery ORDER BY id"))
    assert [row["state"] for row in sent] == ["delivered"] * len(sent) != []


def test_jobs_that_wait_learn_their_user(before: Database) -> None:
    life = LIVES["postgres" if before.postgres else "sqlite"]
    with before.engine.connect() as connection:
        replay(connection, life, slice(0, len(life["groups"]) // 2))
        connection.rollback()
    with before.engine.begin() as connection:
        assert connection.exec_driver_sql("UPDATE job SET finished_at = NULL WHERE kind = 'generation'").rowcount
    migrate(before.engine)
    users = "SELECT g.user_id AS wanted, j.user_id FROM job j JOIN generation g ON g.id = j.subject_id ORDER BY j.id"
    named = before.read_now(lambda tx: tx.all(users))
    assert named[0]["wanted"] == "ann"
    assert all(row["user_id"] == (row["wanted"] or "") for row in named)


def test_a_migration_behind_an_open_transaction_fails_in_words_and_goes_on_later(old_postgres: Database) -> None:
    with old_postgres.engine.connect() as other:
        other.exec_driver_sql("SELECT count(*) FROM job")
        with pytest.raises(SchemaLocked, match=r"stays at revision 0004: .*dailies, pid \d+, idle in transaction"):
            migrate(old_postgres.engine, patience=0.1)
        other.rollback()
    assert migrate(old_postgres.engine) is True
    assert current(old_postgres.engine) == head()


def test_it_waits_for_a_transaction_that_ends(old_postgres: Database) -> None:
    with old_postgres.engine.connect() as other:
        other.exec_driver_sql("SELECT count(*) FROM job")
        threading.Timer(1.5, other.rollback).start()
        assert migrate(old_postgres.engine) is True


def test_an_index_that_was_left_half_built_is_made_anew(old_postgres: Database) -> None:
    """CREATE INDEX CONCURRENTLY waits for older snapshots; where it gives up, an invalid index stays."""
    with old_postgres.engine.connect() as connection:
        migrating.upgrade(connection, "0005")
    with old_postgres.engine.connect() as other:
        other.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.exec_driver_sql("SELECT count(*) FROM alembic_version")
        with pytest.raises(SchemaLocked, match="0005"):
            migrate(old_postgres.engine, patience=0.1)
        other.rollback()
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert old_postgres.read_now(lambda tx: tx.value(invalid)) == 1
    assert migrate(old_postgres.engine) is True
    assert old_postgres.read_now(lambda tx: tx.value(invalid)) == 0


def test_no_script_holds_up_a_claim_for_longer_than_it_may(old_postgres: Database) -> None:
    """Each transaction of a migration says at its begin how long it waits for locks."""
    waits: list[str] = []
    event.listen(
        old_postgres.engine,
        "before_cursor_execute",
        lambda c, cursor, sql, *_: (
            waits.append(cursor.execute("SHOW lock_timeout").fetchone()[0])
            if sql.startswith(("ALTER", "CREATE", "DROP"))
            else None
        ),
    )
    assert migrate(old_postgres.engine) is True
    assert set(waits) == {"1s", "5s"}


def test_a_limit_of_the_role_does_not_end_a_migration(old_postgres: Database) -> None:
    """An index of a large table takes minutes; the limit holds again for what comes after."""
    name = old_postgres.engine.url.database
    with old_postgres.engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET statement_timeout = '7s'")
        connection.commit()
    old_postgres.engine.dispose()
    seen: set[str] = set()

    def look(_: Any, cursor: Any, statement: str, *_more: Any) -> None:
        if statement.lstrip().startswith(("CREATE INDEX", "CREATE TABLE clock", "ALTER TABLE", "UPDATE job")):
            seen.add(cursor.connection.execute("SHOW statement_timeout").fetchone()[0])

    event.listen(old_postgres.engine, "before_cursor_execute", look)
    migrate(old_postgres.engine)
    assert seen == {"0"}
    assert old_postgres.read_now(lambda tx: tx.value("SHOW statement_timeout")) == "7s"
