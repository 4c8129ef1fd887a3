"""No statement of ours reads what has ended, on either engine: the real functions are run, and every statement that
they say is explained. With DAILIES_SCALE=1 (`make scale`) a million generations have ended, and times are measured."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import psycopg
import pytest
from psycopg import sql as pg
from sqlalchemy import Connection, UniqueConstraint, event
from sqlmodel import SQLModel

from pipeline import admission, durations, generations, ledger, outbox, queue, retention, rings, timeline
from pipeline.db import Database, Tx
from pipeline.generations.reading import Filters, counts
from pipeline.lifecycle import JobKind, Snooze, Step
from pipeline.outbox import endpoints, managing, reads
from pipeline.queue import DeadFilter
from tests.pipeline.engines import Place, PostgresServer, SqlitePlaces
from tests.pipeline.populated import BIG, believe, populate

SCALE = os.environ.get("DAILIES_SCALE") == "1"
ENDED = 1_000_000 if SCALE else 3_000
MANY = 1_000_000
N = f"{7:012}"
GEN, DLV, SUB = f"gen_{N}", f"dlv_{N}", f"sub_{N}"

NOW = 1_790_000_000_000
"""Before every lease ends that is still held."""

Ask = Callable[[Tx], object]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def full(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database after a million generations, or one whose planner believes so."""
    if request.param == "sqlite":
        places: SqlitePlaces = request.getfixturevalue("sqlite_places")
        with places.new() as place:
            db = place.open()
            populate(db, ENDED)
            yield db
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create("dailies_template")
    db = Database(server.url(name))
    populate(db, ENDED)
    if not SCALE:
        believe(db, MANY // ENDED)
    yield db
    db.close()
    server.admin(f"DROP DATABASE {name} WITH (FORCE)")


def claim(step: Step) -> Ask:
    return lambda tx: queue.claim(tx, worker="w1", step=step, limit=16, lease=10.0, per_lane=8)


def deliveries_due(tx: Tx) -> object:
    rooms = admission.rooms(tx, most=1000)
    assert rooms.free
    return queue.claim(tx, worker="w1", step=Step.DELIVER, limit=16, lease=10.0, rooms=rooms.free)


def record(tx: Tx) -> object:
    """A turn from its claim to its snooze."""
    claims = queue.claim(tx, worker="w1", step=Step.POLL, limit=1, lease=10.0)
    assert claims
    seen = queue.lock(tx, claims[0])
    return queue.acknowledge(tx, claims[0], Snooze(5.0), wake_seq=seen["wake_seq"])


def listed(**filters: Any) -> Ask:
    return lambda tx: generations.page(tx, "default", Filters(**filters), limit=21, after=None)


def delivered(**filters: Any) -> Ask:
    return lambda tx: reads.delivery_page(tx, reads.DeliveryFilter(**filters), limit=21)


BOUNDS = admission.Bounds(500, per_minute={"provider:1": 10})
ASKED: dict[str, Ask] = {
    **{f"claim {step}": claim(step) for step in (Step.SUBMIT, Step.POLL, Step.STORE, Step.RESOLVE)},
    "deliveries due": deliveries_due,
    "record": record,
    "next due": lambda tx: queue.next_due(tx, list(Step)),
    "extend": lambda tx: queue.extend(tx, "w0", range(1, 50), 10.0),
    "wake": lambda tx: queue.wake(tx, JobKind.GENERATION, GEN),
    "stats": queue.stats,
    "first in line": lambda tx: queue.first_in_line(tx, "provider:1"),
    "admit": lambda tx: admission.admit(tx, limit=8, bounds=BOUNDS),
    "next opening": lambda tx: admission.next_opening(tx, BOUNDS),
    "by our id": lambda tx: generations.find(tx, "default", GEN),
    "by the app's id": lambda tx: generations.find(tx, "default", f"mine-{N}"),
    "list": listed(),
    "list failed": listed(statuses=("failed",)),
    "list living": listed(statuses=("queued", "processing")),
    "list of an error": listed(error_code="moderated"),
    "list of a user": listed(user_id="user_7"),
    "ended lately": lambda tx: counts(tx, tx.now - 3_600_000),
    "durations": lambda tx: durations.taken(tx, durations.Key("mock", None, None)),
    "submission by token": lambda tx: ledger.by_token(tx, SUB),
    "open submission": lambda tx: ledger.open_submission(tx, GEN),
    "submissions": lambda tx: ledger.history(tx, GEN),
    "owner of an operation": lambda tx: ledger.owner(tx, "mock", f"op_{N}"),
    "timeline": lambda tx: timeline.read(tx, GEN),
    "deliveries": lambda tx: outbox.deliveries(tx, GEN),
    "deliveries of a tenant": delivered(tenant="default"),
    "deliveries that are dead": delivered(tenant="default", state="dead"),
    "deliveries to an endpoint": delivered(tenant="default", endpoint="wep_9"),
    "deliveries of a generation": delivered(tenant="default", generation_id=GEN),
    "attempts": lambda tx: reads.attempts(tx, DLV),
    "an endpoint starts afresh": lambda tx: endpoints.start_afresh(tx, "wep_1"),
    "endpoints": lambda tx: managing.page(tx, "default", limit=21),
    "deleted endpoints": managing.forget_deleted,
    "dead": lambda tx: queue.dead(tx, DeadFilter(), limit=21),
    "dead by error": lambda tx: queue.dead_groups(tx, DeadFilter(), limit=21),
    "prune jobs": lambda tx: queue.prune(tx, before=1_500, limit=100),
    "prune money": lambda tx: ledger.prune(tx, before=1_500, limit=100),
    "prune events": lambda tx: outbox.prune(tx, before=1_500, limit=100),
    "prune lines": lambda tx: timeline.prune(tx, before=1_500, limit=100),
    "prune rings": lambda tx: rings.prune(tx, before=1_500, limit=100),
    "prune generations": lambda tx: retention.old(tx, 1_500, 100),
    "prune a generation": lambda tx: retention.forget(tx, GEN, 1_500),
    "prune inputs": lambda tx: retention.old_inputs(tx, 1_500, 100),
    "prune videos": lambda tx: retention.due_videos(tx, 100),
}
IN_ORDER = {
    "prune lines": {"SCAN timeline", "Index Scan timeline timeline_pkey"},
    "prune events": {"Index Scan webhook_delivery webhook_delivery_once"},
    "list": {"Index Scan generation generation_pkey"},
    "deliveries of a tenant": {"Index Scan webhook_delivery webhook_delivery_pkey"},
}
"""From one end on, beside others in the same order, until a page is full: of a tenant with much, PostgreSQL finds that
cheaper than the tenant's own index."""
SLOW_MS = {"stats": 60.0, "ended lately": 60.0}
"""What may take longer than 25 ms at a million."""


def heard(db: Database, ask: Ask) -> tuple[list[tuple[str, Any]], list[str], float]:
    """What the function said to the database, the plans of that, and how many milliseconds it took; all undone."""
    said: list[tuple[str, Any]] = []

    def hear(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.split(maxsplit=1)[0] in {"SELECT", "WITH", "UPDATE", "DELETE", "INSERT"}:
            said.append((statement, parameters))

    with db.engine.connect() as connection:
        if not db.postgres:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        tx = Tx(connection, NOW, postgres=db.postgres)
        event.listen(connection, "before_cursor_execute", hear)
        took = timed(ask, tx)
        event.remove(connection, "before_cursor_execute", hear)
        explain = postgres_plan if db.postgres else sqlite_plan
        plans = [line for statement, parameters in said for line in explain(connection, statement, parameters)]
        connection.rollback()
    return said, plans, took


def timed(ask: Ask, tx: Tx) -> float:
    started = perf_counter()
    ask(tx)
    return (perf_counter() - started) * 1000


def again(db: Database, ask: Ask) -> float:
    """Milliseconds once more, undone."""
    with db.engine.connect() as connection:
        if not db.postgres:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        took = timed(ask, Tx(connection, NOW, postgres=db.postgres))
        connection.rollback()
    return took


def sqlite_plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    return [row[3] for row in rows]


PLANNING = 2.5
"""What PostgreSQL reckons for planning, per table: 1000 x cpu_operator_cost."""


def postgres_plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """The plan for these values, and the one for any values where PostgreSQL would choose it: the driver prepares what
    it says more than five times, and then the cheaper one is taken, planning included (`choose_custom_plan`)."""
    found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()[0]["Plan"]
    plans = list(_nodes(found))
    driver: Any = connection.connection.dbapi_connection
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    text = statement.replace("%%", "%")
    for number, name in enumerate(names, 1):
        text = re.sub(rf"%\({name}\)s(::\w+)?", f"${number}\\1", text)
    values = pg.SQL(", ").join(pg.Literal(parameters[name]) for name in names)
    with driver.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("SAVEPOINT before_it")
        try:
            cursor.execute(f"PREPARE asked AS {text}")
        except psycopg.Error:
            cursor.execute("ROLLBACK TO before_it")
            return plans
        given = pg.SQL("({})").format(values) if names else pg.SQL("")
        cursor.execute(pg.SQL("EXPLAIN (FORMAT JSON) EXECUTE asked") + given)
        generic = cursor.fetchone()[0][0]["Plan"]
        cursor.execute("DEALLOCATE asked")
    planning = PLANNING * (len(plans) + 1)
    return plans + (list(_nodes(generic)) if generic["Total Cost"] < found["Total Cost"] + planning else [])


def _nodes(plan: dict[str, Any]) -> Iterator[str]:
    """One line per node that reads a table."""
    if "Relation Name" in plan:
        condition = plan.get("Index Cond", "")
        yield f"{plan['Node Type']} {plan['Relation Name']} {plan.get('Index Name', '')} {condition}".strip()
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _leading() -> dict[str, str]:
    """The first column of every index over all rows of a large table, by its name in either engine."""
    found = {"sqlite_autoindex_job_1": "kind"}
    for name in BIG:
        table = SQLModel.metadata.tables[name]
        whole_ones = [index for index in table.indexes if index.dialect_options["sqlite"]["where"] is None]
        uniques = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
        found |= {str(each.name): next(iter(each.columns)).name for each in (*whole_ones, *uniques)}
        found |= {f"{name}_pkey": "id", f"sqlite_autoindex_{name}_1": "id"}
    return found


LEADING = _leading()
ALIASES = {*BIG, "j", "g", "s", "e", "d", "a", "n"}


def whole(plan: str) -> bool:
    """Whether a line of a plan reads a large table, or an index over all of it, from its beginning to its end."""
    words = plan.split()
    if plan.startswith("Seq Scan"):
        return words[2] in BIG
    if plan.startswith("Index"):
        index = next((word for word in words if word in LEADING), None)
        return index is not None and not re.search(rf"\b{LEADING[index]}\b", plan.partition(index)[2])
    over_all = "INDEX" not in plan or any(word in LEADING for word in words)
    return plan.startswith("SCAN ") and words[1] in ALIASES and over_all


@pytest.mark.parametrize("name", ASKED)
def test_nothing_reads_a_whole_table(full: Database, name: str) -> None:
    said, plans, took = heard(full, ASKED[name])
    assert said
    assert plans
    assert [plan for plan in plans if whole(plan) and plan not in IN_ORDER.get(name, ())] == []
    if SCALE:
        took = min(took, *(again(full, ASKED[name]) for _ in range(4)))
        print(f"{'PostgreSQL' if full.postgres else 'SQLite':<10}  {name:<28} {took:8.2f} ms")
        assert took < SLOW_MS.get(name, 25.0)


def test_what_reads_a_whole_table_would_be_seen(full: Database) -> None:
    for bad in ("SELECT count(*) FROM job WHERE attempts = 7", "SELECT 1 FROM webhook_event e WHERE e.sequence = 7"):
        _, plans, _ = heard(full, lambda tx, bad=bad: tx.all(bad))
        assert [plan for plan in plans if whole(plan)], plans


def test_few_deliveries_are_not_looked_for_among_all_of_a_tenant(full: Database) -> None:
    _, plans, _ = heard(full, ASKED["deliveries of a generation"])
    assert not [plan for plan in plans if "webhook_delivery_list" in plan]
    assert [plan for plan in plans if re.search(r"event_id ?=", plan)]


# --- old versions of rows --------------------------------------------------------------------------------------------


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database of its own, whose statistics nobody has counted in."""
    place = Place(postgres_server.url(postgres_server.create("dailies_template")))
    yield place.open()
    place.close()


def written(db: Database, table: str) -> tuple[int, int]:
    """Updates so far, and those of them that touched no index."""
    with db.engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    row = db.read_now(
        lambda tx: tx.one("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :t", {"t": table})
    )
    assert row is not None
    return row["n_tup_upd"], row["n_tup_hot_upd"]


def flushed(tx: Tx) -> None:
    tx.value("SELECT pg_stat_force_next_flush()")


def test_renewals_and_progress_touch_no_index(postgres: Database) -> None:
    """For twenty rounds: the old versions are taken away within their pages, so nothing grows."""
    populate(postgres, 200)

    def renew(tx: Tx) -> None:
        flushed(tx)
        ids = [row["id"] for row in tx.all("SELECT id FROM job WHERE status = 'processing'")]
        assert len(queue.extend(tx, "w0", ids, 10.0)) == len(ids) == 500

    def progress(tx: Tx) -> None:
        flushed(tx)
        changed = {"progress": 50.0, "updated_at": tx.now, "operation": '{"id": "x"}', "stage": "generating"}
        tx.update("generation", changed, "status = 'queued'", {})

    for unit, table in ((renew, "job"), (progress, "generation")):
        asyncio.run(postgres.write(unit))
        before = written(postgres, table)
        for _ in range(20):
            asyncio.run(postgres.write(unit))
        updates, hot = (after - old for after, old in zip(written(postgres, table), before, strict=True))
        assert updates >= 10_000
        assert hot / updates > 0.8, f"{table}: {hot} of {updates}"


def test_every_table_is_stored_for_its_use(postgres: Database) -> None:
    rows = postgres.read_now(lambda tx: tx.all("SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL"))
    found = {row["relname"]: dict(word.split("=") for word in row["reloptions"]) for row in rows}
    assert {"job", "generation", "submission", "worker", "lane", "timeline", "webhook_delivery"} <= set(found)
    assert found["job"]["fillfactor"] == "80"
    assert found["job"]["autovacuum_vacuum_cost_delay"] == "0"


def measure_claims(postgres: Database) -> None:
    """Nothing may be vacuumed that an open snapshot might still see: claims stay quick all the same."""
    populate(postgres, ENDED // 10)
    times: dict[bool, list[float]] = {}

    def turn(tx: Tx) -> float:
        started = perf_counter()
        claims = queue.claim(tx, worker="w1", step=Step.POLL, limit=16, lease=10.0)
        took = (perf_counter() - started) * 1000
        for claim in claims:
            queue.acknowledge(tx, claim, Snooze(0.0), wake_seq=claim.wake_seq)
        return took

    with postgres.engine.connect() as old:
        for pinned in (False, True):
            if pinned:
                old.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
                old.exec_driver_sql("SELECT count(*) FROM lane")
            times[pinned] = sorted(asyncio.run(postgres.write(turn)) for _ in range(3_000))
    for pinned, took in times.items():
        p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
        print(f"claim of 16, {'behind an old transaction' if pinned else 'alone'}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    assert times[True][2_970] < 100


if SCALE:
    test_claims_stay_quick_behind_an_old_transaction = measure_claims
