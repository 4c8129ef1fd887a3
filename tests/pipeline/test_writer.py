"""The writer: many units in one commit, each answered for itself, on disks and servers that fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from pipeline.db import (
    CommitUnknown,
    Database,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    Tx,
    WriterFull,
)
from pipeline.db.writer import QUEUE
from tests.pipeline.cutting_proxy import Cut, CuttingProxy
from tests.pipeline.engines import Place, PostgresServer, transaction

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def put(name: str, bound: int = 1) -> Callable[[Tx], str]:
    """A unit that inserts a row of its own."""

    def unit(tx: Tx) -> str:
        tx.insert("lane", {"name": name, "max_in_flight": bound, "unknown_streak": 0})
        return name

    return unit


async def names(db: Database) -> list[str]:
    rows = await db.read(lambda tx: tx.all("SELECT name FROM lane ORDER BY name"))
    return [row["name"] for row in rows]


async def as_one_group(db: Database, *units: Callable[[Tx], Any]) -> list[Any]:
    """Hand units in while the writer is busy with another; returns results and errors."""
    entered, leave = threading.Event(), threading.Event()

    def occupy(_: Tx) -> None:
        entered.set()
        leave.wait(10)

    first = asyncio.create_task(db.write(occupy))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [asyncio.ensure_future(db.write(unit)) for unit in units]
    await asyncio.sleep(0)
    leave.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


# --- groups ----------------------------------------------------------------------------------------------------------


async def test_what_comes_during_a_commit_shares_the_next(db: Database) -> None:
    before = db.commits
    assert await as_one_group(db, *[put(f"l{n:03}") for n in range(200)]) == [f"l{n:03}" for n in range(200)]
    assert db.commits - before == 2
    assert len(await names(db)) == 200


async def test_units_run_in_the_order_of_their_keys_and_renewals_first(db: Database) -> None:
    ran: list[str] = []
    entered, leave = threading.Event(), threading.Event()
    occupied = asyncio.create_task(db.write(lambda _: (entered.set(), leave.wait(10))))
    await asyncio.to_thread(entered.wait, 10)
    work = [
        asyncio.ensure_future(db.write(lambda _, name=name: ran.append(name), key=key, first=first))
        for name, key, first in (("7", 7, False), ("3", 3, False), ("3 again", 3, False), ("renewal", 0, True))
    ]
    await asyncio.sleep(0)
    leave.set()
    await asyncio.gather(occupied, *work)
    assert ran == ["renewal", "3", "3 again", "7"]


async def test_a_unit_that_fails_harms_nobody_else(db: Database) -> None:
    await db.write(put("taken"))

    def broken(_: Tx) -> None:
        raise ValueError("a bug")

    def exhausted(_: Tx) -> None:
        next(iter(()))

    got = await as_one_group(db, put("a"), broken, put("taken"), exhausted, put("b"))
    assert [got[0], got[4]] == ["a", "b"]
    assert isinstance(got[1], ValueError)
    assert isinstance(got[2], IntegrityError)
    assert isinstance(got[3], RuntimeError)
    assert await names(db) == ["a", "b", "taken"]


async def test_a_unit_may_run_twice_but_is_kept_once(db: Database) -> None:
    runs: list[int] = []

    def unit(tx: Tx) -> int:
        runs.append(1)
        put("once")(tx)
        return len(runs)

    def broken(_: Tx) -> None:
        raise ValueError("a bug")

    got = await as_one_group(db, unit, broken)
    assert got[0] == 2, "its answer is that of the run that was kept"
    assert await names(db) == ["once"]


class Leaving(BaseException):
    """What no `except Exception` catches."""


async def test_nothing_that_a_unit_raises_ends_the_writer(db: Database) -> None:
    def leaving(_: Tx) -> None:
        raise Leaving

    with pytest.raises(Leaving):
        await db.write(leaving)
    await db.write(put("after"))
    assert await names(db) == ["after"]


async def test_a_caller_who_leaves_does_not_take_the_unit_along(db: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def unit(tx: Tx) -> None:
        entered.set()
        leave.wait(10)
        put("kept")(tx)

    caller = asyncio.create_task(db.write(unit))
    await asyncio.to_thread(entered.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    leave.set()
    await db.write(put("next"))
    assert await names(db) == ["kept", "next"]


def test_a_caller_whose_whole_loop_has_gone_concerns_nobody(place: Place) -> None:
    db = place.open()
    leave = threading.Event()

    async def hand_in() -> None:
        task = asyncio.create_task(db.write(lambda tx: (leave.wait(10), put("orphan")(tx))))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(hand_in())
    leave.set()
    asyncio.run(db.write(put("next")))
    assert asyncio.run(names(db)) == ["next", "orphan"]


async def test_a_full_queue_refuses_all_but_renewals(sqlite_place: Place) -> None:
    db = sqlite_place.open()
    entered, leave = threading.Event(), threading.Event()
    work = [asyncio.create_task(db.write(lambda _: (entered.set(), leave.wait(10))))]
    await asyncio.to_thread(entered.wait, 10)
    work += [asyncio.create_task(db.write(lambda tx: tx.now)) for _ in range(QUEUE)]
    await asyncio.sleep(0)
    with pytest.raises(WriterFull):
        await db.write(put("refused"))
    work.append(asyncio.create_task(db.write(put("renewal"), first=True)))
    leave.set()
    await asyncio.gather(*work)
    assert await names(db) == ["renewal"]
    await db.write(put("again"))


async def test_a_renewal_does_not_wait_for_those_behind_it(place: Place) -> None:
    """A look that waits for a lane's lock would take the leases of the whole process with it."""
    db = place.open()
    entered, leave, locked = threading.Event(), threading.Event(), threading.Event()
    running = asyncio.create_task(db.write(lambda _: (entered.set(), leave.wait(10)), aside=True))
    await asyncio.to_thread(entered.wait, 10)
    look = asyncio.create_task(db.write(lambda _: locked.wait(10), aside=True))
    renewals = [asyncio.create_task(db.write(put(f"r{n}"), first=True, aside=True)) for n in range(2)]
    await asyncio.sleep(0)
    leave.set()
    async with asyncio.timeout(5):
        assert sorted(await asyncio.gather(*renewals)) == ["r0", "r1"]
    assert not look.done()
    locked.set()
    await asyncio.gather(running, look)


async def test_closing_writes_what_is_waiting_and_refuses_the_rest(place: Place) -> None:
    db = place.open()
    entered = threading.Event()

    def slow(tx: Tx) -> None:
        entered.set()
        put("slow")(tx)

    work = [asyncio.create_task(db.write(unit)) for unit in (slow, put("waiting"))]
    await asyncio.sleep(0)
    await asyncio.to_thread(db.close)
    await asyncio.gather(*work)
    with pytest.raises(WriterFull):
        await db.write(put("late"))
    assert await names(place.open()) == ["slow", "waiting"]


async def test_time_is_told_by_the_database_and_moved_by_an_argument(db: Database, place: Place) -> None:
    first = await db.write(lambda tx: tx.now)
    place.time.passes(3600)
    second = await db.write(lambda tx: tx.now)
    third = await db.read(lambda tx: tx.now)
    assert 3_600_000 <= second - first < 3_610_000
    assert 0 <= third - second < 10_000


async def test_a_reader_sees_one_moment_and_keeps_nothing(db: Database) -> None:
    loop = asyncio.get_running_loop()

    def look(tx: Tx) -> tuple[int, int]:
        before = tx.value("SELECT count(*) FROM lane")
        asyncio.run_coroutine_threadsafe(db.write(put("meanwhile")), loop).result(10)
        return before, tx.value("SELECT count(*) FROM lane")

    assert await db.read(look) == (0, 0)
    assert await names(db) == ["meanwhile"]
    with suppress(DBAPIError, DatabaseError):  # PostgreSQL refuses, SQLite forgets
        await db.read(put("by a reader"))
    assert await names(db) == ["meanwhile"]


# --- SQLite ----------------------------------------------------------------------------------------------------------


async def test_sqlite_is_durable(sqlite_place: Place) -> None:
    """2 is FULL: a commit is on the disk before anybody hears of it."""
    db = sqlite_place.open()
    for ask in (db.write, db.read):
        found = await ask(
            lambda tx: [tx.value(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
        )
        assert found == ["wal", 2, 1]


CONTENDER = """
import asyncio, sys
from pipeline.db import Database

async def main(url, me):
    db = Database(url)
    for n in range(60):
        await asyncio.gather(*(
            db.write(lambda tx, name=f"{me}-{n}-{m}": tx.insert("lane", {"name": name, "unknown_streak": len(
                tx.all("SELECT name FROM lane LIMIT 5"))}))
            for m in range(3)
        ))
    db.close()

asyncio.run(main(*sys.argv[1:]))
"""


def run_script(script: str, *args: str) -> subprocess.Popen[str]:
    """A Python process of its own, beside this one."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *args], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


async def test_processes_that_write_at_once_wait_for_each_other(place: Place) -> None:
    """Each unit reads before it writes: on SQLite an error that no waiting mends, unless it began IMMEDIATE."""
    contenders = [run_script(CONTENDER, place.url, f"p{n}") for n in range(2)]
    for contender in contenders:
        output, _ = await asyncio.to_thread(contender.communicate, timeout=60)
        assert contender.returncode == 0, output
    assert len(await names(place.open())) == 2 * 60 * 3


async def test_a_short_lock_of_another_process_is_waited_for(sqlite_place: Place) -> None:
    db, other = sqlite_place.open(), sqlite_place.open()
    with transaction(other):
        pending = asyncio.create_task(db.write(put("patient")))
        await asyncio.to_thread(threading.Event().wait, 0.1)
        assert not pending.done()
    assert await pending == "patient"


async def test_a_full_disk_is_said_and_survived(sqlite_place: Place) -> None:
    db = sqlite_place.open()
    pages = await db.write(lambda tx: tx.value("PRAGMA page_count"))
    await db.write(lambda tx: tx.value(f"PRAGMA max_page_count = {pages + 2}"))
    got = await as_one_group(db, put("small"), put("x" * 100_000))
    assert got[0] == "small"
    assert isinstance(got[1], DatabaseUnavailable)
    assert "full" in str(got[1])
    await db.write(lambda tx: tx.value("PRAGMA max_page_count = 100000"))
    await db.write(put("later"))
    assert await names(db) == ["later", "small"]


FULL_AT_COMMIT = """
import asyncio, os, resource, sys
from pipeline.db import CommitUnknown, Database

def put(name, size):
    return lambda tx: tx.insert("lane", {"name": name, "paused_reason": "x" * size, "unknown_streak": 0})

async def main(url):
    db = Database(url)
    await db.write(put("before", 10))
    written = os.path.getsize(url.removeprefix("sqlite:///") + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 100_000, resource.RLIM_INFINITY))
    try:
        await db.write(put("failing", 500_000))
    except CommitUnknown as error:
        print("unknown:", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await db.write(put("after", 10))
    print(sorted(row["name"] for row in await db.read(lambda tx: tx.all("SELECT name FROM lane"))))
    db.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_a_disk_that_fails_at_the_commit_leaves_it_unknown_and_the_next_one_works(sqlite_place: Place) -> None:
    """SQLite takes back what it could not write; but after an error of the disk who knows? So nobody is told "no"."""
    script = run_script(FULL_AT_COMMIT, sqlite_place.url)
    output, _ = await asyncio.to_thread(script.communicate, timeout=30)
    assert script.returncode == 0, output
    said, left = output.strip().splitlines()
    assert said.startswith("unknown: the answer to COMMIT was lost")
    assert left == "['after', 'before']"


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(postgres_server.port)
    yield proxy
    proxy.close()


def through(proxy: CuttingProxy, place: Place, server: PostgresServer) -> Database:
    return Place(place.url.replace(f":{server.port}/", f":{proxy.port}/"), place.time, place.opened).open()


@pytest.mark.parametrize(("cut", "kept"), [(Cut.AFTER, ["a", "b"]), (Cut.BEFORE, [])])
async def test_when_the_answer_to_commit_is_lost_nobody_is_told_yes_or_no(
    proxy: CuttingProxy, postgres_place: Place, postgres_server: PostgresServer, cut: Cut, kept: list[str]
) -> None:
    db = through(proxy, postgres_place, postgres_server)

    def arm(tx: Tx) -> str:
        proxy.cut = cut
        return put("b")(tx)

    got = await as_one_group(db, put("a"), arm)
    assert [type(each) for each in got] == [CommitUnknown, CommitUnknown]
    assert await names(db) == kept
    await db.write(put("next"))
    assert await names(db) == [*kept, "next"]


async def test_a_backend_that_is_ended_in_the_middle_harms_nobody(postgres_place: Place) -> None:
    db = postgres_place.open()
    ended: list[int] = []

    def unit(tx: Tx) -> str:
        if not ended:
            ended.append(tx.value("SELECT pg_backend_pid()"))
            with psycopg.connect(postgres_place.url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", ended)
        return put("b")(tx)

    assert await as_one_group(db, put("a"), unit, put("c")) == ["a", "b", "c"]
    assert await names(db) == ["a", "b", "c"]


async def test_a_backend_that_is_ended_again_and_again_is_said_to_be_unavailable(postgres_place: Place) -> None:
    db = postgres_place.open()

    def unit(tx: Tx) -> str:
        tx.value("SELECT pg_terminate_backend(pg_backend_pid())")
        return put("b")(tx)

    got = await as_one_group(db, put("a"), unit)
    assert got[0] == "a"
    assert isinstance(got[1], DatabaseUnavailable)
    await db.write(put("c"))
    assert await names(db) == ["a", "c"]


async def test_the_writer_outlives_a_crash_of_the_server(
    postgres_place: Place, postgres_server: PostgresServer
) -> None:
    db = postgres_place.open()
    await db.write(put("before"))
    await asyncio.to_thread(postgres_server.restart)
    await db.write(put("after"))
    assert await names(db) == ["after", "before"]


async def test_a_server_that_is_away_is_said_to_be_so_at_once_to_all(
    postgres_place: Place, postgres_server: PostgresServer, proxy: CuttingProxy
) -> None:
    db = through(proxy, postgres_place, postgres_server)
    await db.write(put("before"))
    proxy.close()
    started = monotonic()
    got = await asyncio.gather(*(db.write(put(f"l{n}")) for n in range(50)), return_exceptions=True)
    assert {type(each) for each in got} == {DatabaseUnavailable}
    assert monotonic() - started < 5
    with pytest.raises(DatabaseUnavailable):
        await db.read(lambda tx: tx.now)


async def test_a_unit_that_hides_its_failed_statement_is_not_told_that_it_was_kept(postgres_place: Place) -> None:
    """PostgreSQL would answer COMMIT with a rollback, and no error."""
    db = postgres_place.open()

    def hiding(tx: Tx) -> str:
        put("hidden")(tx)
        try:
            tx.run("SELECT 1/0")
        except Exception:
            return "all is well"
        raise AssertionError

    got = await as_one_group(db, put("a"), hiding)
    assert got[0] == "a"
    assert isinstance(got[1], DatabaseError)
    assert await names(db) == ["a"]


async def test_a_lock_that_is_held_too_long_is_said_to_be_so(postgres_place: Place) -> None:
    db, other = postgres_place.open(), postgres_place.open()
    await db.write(put("held"))
    with transaction(other) as tx:
        tx.run("UPDATE lane SET unknown_streak = 1")
        with pytest.raises(DatabaseBusy):
            await db.write(lambda tx: tx.run("UPDATE lane SET unknown_streak = 2"))
    await db.write(lambda tx: tx.run("UPDATE lane SET unknown_streak = 3"))


async def test_no_setting_of_the_server_makes_a_commit_forgettable(
    postgres_place: Place, postgres_server: PostgresServer
) -> None:
    name = postgres_place.url.rpartition("/")[2]
    for setting, expected in (("off", "on"), ("remote_apply", "remote_apply")):
        postgres_server.admin(f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
        found = await postgres_place.open().write(lambda tx: tx.value("SHOW synchronous_commit"))
        assert found == expected
    postgres_server.admin(f"ALTER DATABASE {name} RESET synchronous_commit")


async def test_a_process_that_is_stopped_in_a_transaction_does_not_hold_its_locks_for_ever(
    postgres_place: Place,
) -> None:
    db = postgres_place.open()
    asked = "SHOW idle_in_transaction_session_timeout"
    assert await db.write(lambda tx: tx.value(asked)) == "5s"
