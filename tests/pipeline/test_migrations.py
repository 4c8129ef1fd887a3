"""The schema is what the models declare, is made once however many start at once, and serves the hot statements by
index."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from pipeline import admission, queue
from pipeline.db import Database, SchemaBehind, Tx
from pipeline.db.migrate import current, head, migrate, require_head
from pipeline.generations.unclear import unclear
from pipeline.lifecycle import JobKind, Step
from tests.pipeline.engines import Place, PostgresServer, SqlitePlaces
from tests.pipeline.test_writer import run_script

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database without any table."""
    if request.param == "sqlite":
        place = Place(f"sqlite:///{tmp_path / 'bare.db'}")
        yield place
        place.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create()
    place = Place(server.url(name))
    yield place
    place.close()
    server.admin(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_migrated_schema_is_what_the_models_declare(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_checks_and_the_conditions_of_indexes_are_there(db: Database) -> None:
    """What alembic does not compare."""
    declared = {
        constraint.name
        for table in SQLModel.metadata.tables.values()
        for constraint in table.constraints
        if type(constraint).__name__ == "CheckConstraint"
    }
    partial = {
        index.name: str(index.dialect_options["sqlite"]["where"])
        for table in SQLModel.metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    if db.postgres:
        checks = db.read_now(lambda tx: tx.all("SELECT conname AS name FROM pg_constraint WHERE contype = 'c'"))
        indexes = db.read_now(lambda tx: tx.all("SELECT indexname AS name, indexdef AS sql FROM pg_indexes"))
        assert declared <= {row["name"] for row in checks}
    else:
        tables = " ".join(
            row["sql"] for row in db.read_now(lambda tx: tx.all("SELECT sql FROM sqlite_master")) if row["sql"]
        )
        indexes = db.read_now(lambda tx: tx.all("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
        assert all(f"CONSTRAINT {name} CHECK" in tables for name in declared)
    found = {row["name"]: row["sql"] for row in indexes}
    assert len(partial) > 5
    for name, condition in partial.items():
        words = re.findall(r"\w+", condition.replace(" IN ", " "))
        assert "WHERE" in found[name], name
        assert all(word in found[name].partition("WHERE")[2] for word in words), name


def test_migrating_twice_is_harmless(bare: Place) -> None:
    db = bare.open()
    assert current(db.engine) is None
    assert migrate(db.engine) is True
    assert current(db.engine) == head()
    assert migrate(db.engine) is False
    require_head(db.engine)


def test_a_schema_that_does_not_fit_is_refused_with_the_mend(bare: Place) -> None:
    db = bare.open()
    with pytest.raises(SchemaBehind, match=r"is empty: run `dailies migrate`"):
        require_head(db.engine)
    migrate(db.engine)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(SchemaBehind, match=rf"at revision 0000, this version needs {head()}: run `dailies migrate`"):
        require_head(db.engine)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaBehind, match="at revision 9999"):
        migrate(db.engine)
    with pytest.raises(SchemaBehind, match=rf"at revision 9999, and this version knows only {head()}: a newer one"):
        require_head(db.engine)


MIGRATE = """
import sys
from pipeline.db import Database
from pipeline.db.migrate import migrate, require_head

db = Database(sys.argv[1])
migrate(db.engine)
require_head(db.engine)
db.close()
"""


async def test_processes_that_start_at_once_migrate_once(bare: Place) -> None:
    scripts: list[subprocess.Popen[str]] = [run_script(MIGRATE, bare.url) for _ in range(3)]
    for script in scripts:
        output, _ = await asyncio.to_thread(script.communicate, timeout=60)
        assert script.returncode == 0, output


# --- plans -----------------------------------------------------------------------------------------------------------

FINISHED = 100_000
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
INSERT INTO job (kind, subject_id, tenant_id, lane, status, step, sort_at, scheduled_for, attempts, polls,
  claims_unrecorded, fence, wake_seq, cancel_requested, locked_by, locked_until, finished_at)
SELECT 'generation', CAST(:prefix AS text) || i, 'default', 'provider:' || (i % 3), :status, :step, i, i, 0, 0, 0, 1, 0,
  0, CAST(:by AS text), CAST(:until AS bigint), CAST(:finished AS bigint) FROM n"""


def crowd(db: Database) -> Database:
    """100,000 finished jobs, and a few hundred of every living kind."""

    def fill(tx: Tx) -> None:
        empty = {"step": "store", "by": None, "until": None, "finished": None}
        tx.run(FILL, empty | {"rows": FINISHED, "prefix": "f", "status": "done", "finished": 1})
        for step in ("submit", "poll", "store", "deliver"):
            living = empty | {"rows": 100, "step": step}
            tx.run(FILL, living | {"prefix": f"p{step}", "status": "pending"})
            taken = {"status": "processing", "by": "w0", "until": tx.now + 60_000}
            tx.run(FILL, living | {"prefix": f"r{step}"} | taken)
        tx.run(FILL, empty | {"rows": 1000, "step": "submit", "prefix": "w", "status": "waiting"})

    asyncio.run(db.write(fill))
    return db


@pytest.fixture(scope="module")
def crowded(sqlite_places: SqlitePlaces) -> Iterator[Database]:
    with sqlite_places.new() as place:
        yield crowd(place.open())


class Explained(Tx):
    """A transaction that asks for the plan of every statement before it runs it."""

    plans: list[str] = []  # noqa: RUF012 - one list for the module's tests, emptied by each

    def all(self, sql: str, parameters: Any = None) -> list[Any]:
        self._explain(sql, parameters)
        return super().all(sql, parameters)

    def run(self, sql: str, parameters: Any = None) -> int:
        self._explain(sql, parameters)
        return super().run(sql, parameters)

    def _explain(self, sql: str, parameters: Any) -> None:
        rows = self.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", dict(parameters or {})).fetchall()
        self.plans += [row[3] for row in rows]


def claim(tx: Tx, step: Step = Step.POLL) -> object:
    return queue.claim(tx, worker="w1", step=step, limit=16, lease=10.0, per_lane=8)


def claim_deliveries(tx: Tx) -> object:
    rooms = admission.rooms(tx, most=1000)
    assert rooms.free
    return queue.claim(tx, worker="w1", step=Step.DELIVER, limit=16, lease=10.0, rooms=rooms.free)


def admit(tx: Tx) -> object:
    return admission.admit(tx, limit=8, bounds=admission.Bounds(500))


RATED = admission.Bounds(500, per_minute={"provider:1": 1, "provider:2": 1})


def next_opening(tx: Tx) -> object:
    return admission.next_opening(tx, RATED)


def gate(tx: Tx) -> object:
    admission.hold_lane(tx, "provider:1")
    return admission.gate(tx, "provider:1", RATED, strict=True)


def admit_all_ways(tx: Tx) -> object:
    """A lane is closed, another one is probed, a third has a rate."""
    lanes = [row["lane"] for row in tx.all("SELECT DISTINCT lane FROM job WHERE status = 'waiting' ORDER BY lane")]
    admission.note_refusal(tx, lanes[0], seconds=60, reason="x")
    admission.note_refusal(tx, lanes[1], seconds=0, reason="x")
    return admission.admit(tx, limit=1000, bounds=admission.Bounds(500, per_minute={lanes[2]: 10}))


HOT: list[tuple[str, Callable[[Tx], object], set[str]]] = [
    ("claim", claim, {"job_pending", "job_processing"}),
    ("deliveries", claim_deliveries, {"job_pending", "job_processing"}),
    ("admit", admit, {"job_waiting", "job_waiting_user", "job_pending", "job_processing"}),
    ("admit all ways", admit_all_ways, {"job_waiting", "job_waiting_user", "job_pending", "job_processing"}),
    ("next_opening", next_opening, {"job_waiting", "job_pending", "job_processing"}),
    ("gate", gate, {"job_pending", "job_processing"}),
    ("next_due", lambda tx: queue.next_due(tx, list(Step)), {"job_pending", "job_processing"}),
    ("in_flight", lambda tx: admission.in_flight(tx, "provider:1"), {"job_pending", "job_processing"}),
    ("extend", lambda tx: queue.extend(tx, "w0", range(1, 50), 10.0), set()),
    ("wake", lambda tx: queue.wake(tx, JobKind.GENERATION, "ppoll7"), {"sqlite_autoindex_job_1"}),
    ("prune", lambda tx: queue.prune(tx, before=1, limit=100), {"job_finished"}),
    ("stats", queue.stats, {"job_waiting", "job_pending", "job_processing", "job_dead"}),
]


LIVING = {"job_pending", "job_processing", "job_waiting", "job_waiting_user", "job_fallback", "job_in_flight"}
"""The indexes in which nothing is that has ended."""


@pytest.mark.parametrize(("name", "unit", "indexes"), HOT, ids=[name for name, _, _ in HOT])
def test_no_hot_statement_reads_what_is_finished(
    crowded: Database, name: str, unit: Callable[[Tx], object], indexes: set[str]
) -> None:
    Explained.plans.clear()
    crowded.read_now(lambda tx: unit(Explained(tx.connection, tx.now, postgres=False)))
    of_job = [plan for plan in Explained.plans if re.search(r"\b(job|j)\b", plan)]
    used = {match for plan in of_job for match in re.findall(r"INDEX (\w+)", plan)}
    assert indexes <= used <= indexes | LIVING, of_job
    whole = [plan for plan in of_job if plan.startswith("SCAN") and "INDEX" not in plan]
    assert whole == [], f"{name} reads the whole table"


def test_what_is_held_is_found_by_its_index(crowded: Database) -> None:
    for tenant, after in ((None, None), ("acme", (1, "gen_1"))):
        Explained.plans.clear()

        def ask(tx: Tx, tenant: str | None = tenant, after: tuple[int, str] | None = after) -> object:
            return unclear(Explained(tx.connection, tx.now, postgres=False), tenant, limit=21, after=after)

        crowded.read_now(ask)
        (of_submission,) = [plan for plan in Explained.plans if re.match(r"(SCAN|SEARCH) s\b", plan)]
        assert "submission_unknown" in of_submission
        assert not [plan for plan in Explained.plans if plan.startswith("SCAN") and "INDEX" not in plan]


def look(tx: Tx) -> float:
    """Milliseconds of admission and claims of all steps, as a worker's round does them."""
    started = perf_counter()
    admit(tx)
    for step in (Step.SUBMIT, Step.POLL, Step.STORE, Step.DELIVER):
        claim(tx, step)
    return (perf_counter() - started) * 1000


async def test_a_look_at_a_crowded_queue_is_quick(place: Place) -> None:
    """The bound is several times what is measured; the best of many, since other tests share the machine."""
    db = await asyncio.to_thread(crowd, place.open())
    for _ in range(60):
        took = await db.write(look)
        if took < 25:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{took:.0f} ms, and not once below 25")
