"""A process uses five connections at most, and works through a pooler that gives every transaction another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import ArgumentError

from pipeline.app import Plant, make_worker, open_plant
from pipeline.db import Database, DatabaseBusy, DatabaseError
from pipeline.db.migrate import migrate
from pipeline.db.urls import parse_url
from pipeline.telemetry import subscribe
from pipeline.worker import run_until
from tests.cli_place import dailies
from tests.house import House, eventually, make_settings, open_house
from tests.pipeline.engines import Place, PostgresServer
from tests.pipeline.pgbouncer import pgbouncer
from tests.pipeline.test_writer import put

pytestmark = pytest.mark.anyio

MOST = 5
SECRETS = {"secret_key": "k" * 32, "webhook_secret": "whsec_" + "A" * 32}


def counted(place: Place) -> int:
    """How many connections our processes have to the database."""
    with psycopg.connect(place.url, autocommit=True) as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'dailies' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    found: int = row[0]
    return found


@asynccontextmanager
async def workers(house: House, folder: Path, count: int = 1, **values: Any) -> AsyncIterator[list[Plant]]:
    """Workers beside a house without one, as on machines of their own: they share nothing but the database."""
    stop = asyncio.Event()
    settings = house.plant.settings
    shared = {name: getattr(settings, name) for name in ("mock_url", "mock_speed", "webhook_url", "database_url")}
    plants: list[Plant] = []

    async def work(number: int) -> None:
        mine = make_settings(folder / f"worker{number}", **(shared | SECRETS | values))
        async with open_plant(mine) as plant:
            plants.append(plant)
            await run_until(make_worker(plant), stop)

    tasks = [asyncio.create_task(work(number)) for number in range(count)]

    async def opened() -> list[Plant]:
        return plants

    try:
        yield await eventually(opened, lambda found: len(found) == count, 10)
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_a_crowd_of_callers_uses_five_connections(postgres_place: Place) -> None:
    db = postgres_place.open()
    bell = db.bell("w1")
    assert bell is not None
    bell.open(lambda: None)
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, await asyncio.to_thread(counted, postgres_place))

    counting = asyncio.create_task(count())
    slow = [db.read(lambda tx: tx.value("SELECT pg_sleep(0.05)")) for _ in range(12)]
    quick = [db.write(put(f"l{n}"), aside=n % 2 == 0) for n in range(300)]
    rung = [db.notify("w2") for _ in range(20)]
    await asyncio.gather(*slow, *quick, *rung)
    counting.cancel()
    bell.close()
    assert 4 <= most <= MOST
    assert not db.pooled


async def test_whoever_finds_no_connection_is_told_to_come_back(
    postgres_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = postgres_place.open()
    monkeypatch.setattr(db.engine.pool, "_timeout", 0.05)
    taken = [db.engine.connect() for _ in range(4)]
    try:
        for call in (db.read(lambda tx: tx.now), db.write(put("x")), db.notify("w2")):
            with pytest.raises(DatabaseBusy, match="all connections of this process are in use"):
                await call
    finally:
        for connection in taken:
            connection.close()
    assert await db.write(put("y")) == "y"


async def test_an_api_and_two_workers_hold_five_each_while_they_work(postgres_place: Place, tmp_path: Path) -> None:
    values = SECRETS | {"database_url": postgres_place.url}
    async with open_house(tmp_path / "api", work=False, **values) as house, workers(house, tmp_path, 2) as plants:
        orders = [await house.submit(f"fox {n}") for n in range(20)]
        most = 0
        for order in orders:
            ended = await house.ended(order["id"])
            assert ended["status"] == "completed"
            most = max(most, await asyncio.to_thread(counted, postgres_place))
        assert most <= MOST * 3
        assert len(await house.ledger()) == 20
        assert all(plant.doorbell._distant is not None and plant.doorbell._distant.listening for plant in plants)


# --- PgBouncer -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bouncer(postgres_server: PostgresServer) -> Iterator[int]:
    with pgbouncer(postgres_server) as port:
        yield port


def pooled_url(place: Place, server: PostgresServer, port: int) -> str:
    return place.url.replace(f":{server.port}/", f":{port}/")


async def test_a_pooler_is_noticed_and_nothing_is_prepared_through_it(
    postgres_place: Place, postgres_server: PostgresServer, bouncer: int
) -> None:
    """Without that a statement would be said to be unknown, or known already, after its fifth time."""
    place = Place(pooled_url(postgres_place, postgres_server, bouncer), opened=postgres_place.opened)
    first, second = place.open(), place.open()

    async def use(db: Database, name: str) -> None:
        for n in range(40):
            await asyncio.gather(
                db.write(put(f"{name}-{n}")),
                db.write(lambda tx: tx.value("SELECT count(*) FROM lane"), aside=True),
                db.read(lambda tx: tx.all("SELECT * FROM lane WHERE name = :name", {"name": name})),
                db.notify(name),
            )

    await asyncio.gather(use(first, "a"), use(second, "b"))
    assert first.pooled
    assert second.pooled
    assert await first.read(lambda tx: tx.value("SELECT count(*) FROM lane")) == 80
    with psycopg.connect(place.url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


async def test_a_generation_comes_through_a_pooler(
    postgres_place: Place, postgres_server: PostgresServer, bouncer: int, tmp_path: Path
) -> None:
    """API and worker share nothing but the pooler; the worker hears by a connection that goes past it."""
    url = pooled_url(postgres_place, postgres_server, bouncer)
    values = SECRETS | {"database_url": url, "database_listen_url": postgres_place.url}
    listen = {"database_listen_url": postgres_place.url}
    async with open_house(tmp_path / "api", work=False, **values) as house, workers(house, tmp_path, **listen) as found:
        (plant,) = found
        bell = plant.doorbell._distant
        assert bell is not None

        async def hears() -> bool:
            return bell.listening

        await eventually(hears, bool, 5)
        orders = [await house.submit(f"fox {n}") for n in range(8)]
        for order in orders:
            assert (await house.ended(order["id"]))["status"] == "completed"
        await house.webhooks(8)
        assert plant.db.pooled
        assert len(await house.ledger()) == 8


def test_a_migration_goes_past_the_pooler(postgres_server: PostgresServer, bouncer: int) -> None:
    direct = postgres_server.url(postgres_server.create())
    pooled = direct.replace(f":{postgres_server.port}/", f":{bouncer}/")
    other = postgres_server.url(postgres_server.create("dailies_template"))
    wrong = dailies("migrate", env={"DATABASE_URL": pooled, "DATABASE_LISTEN_URL": other})
    assert wrong.exit_code == 2
    assert "lead to different databases" in wrong.output
    done = dailies("migrate", env={"DATABASE_URL": pooled, "DATABASE_LISTEN_URL": direct})
    assert done.exit_code == 0, done.output
    assert f"{direct}: schema" in done.output
    without = postgres_server.url(postgres_server.create()).replace(f":{postgres_server.port}/", f":{bouncer}/")
    assert "better migrate at PostgreSQL itself" in dailies("migrate", env={"DATABASE_URL": without}).output


async def test_without_a_way_past_the_pooler_it_says_so_and_looks_every_second(
    postgres_place: Place, postgres_server: PostgresServer, bouncer: int, tmp_path: Path
) -> None:
    url = pooled_url(postgres_place, postgres_server, bouncer)
    told: list[str] = []
    unsubscribe = subscribe(lambda event, fields: told.append(str(fields.get("notice"))))
    try:
        async with (
            open_house(tmp_path / "api", work=False, **SECRETS, database_url=url) as house,
            workers(house, tmp_path),
        ):
            started = time.monotonic()
            order = await house.submit("fox")
            await eventually(house.ledger, bool, 5)
            assert time.monotonic() - started < 4
            assert (await house.ended(order["id"]))["status"] == "completed"
    finally:
        unsubscribe()
    assert [notice for notice in told if "set DATABASE_LISTEN_URL to PostgreSQL itself" in notice]


# --- DATABASE_URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u:p%40w@h1:5432,h2:5433/db?target_session_attrs=read-write", "h1,h2", "5432,5433"),
        ("postgresql+psycopg://u:p%40w@h1,h2,h3:6000/db?target_session_attrs=read-write", "h1,h2,h3", "5432,5432,6000"),
        ("postgresql://u:p%40w@[::1]:5432,10.0.0.2/db?target_session_attrs=read-write", "::1,10.0.0.2", "5432,5432"),
    ],
)
def test_several_hosts_are_understood(url: str, hosts: str, ports: str) -> None:
    parsed = parse_url(url)
    db = Database(url)
    _, arguments = db.engine.dialect.create_connect_args(db.engine.url)
    db.close()
    assert {name: str(arguments[name]) for name in ("host", "port", "user", "password", "dbname")} == {
        "host": hosts,
        "port": ports,
        "user": "u",
        "password": "p@w",
        "dbname": "db",
    }
    assert arguments["target_session_attrs"] == "read-write"
    assert "p@w" not in parsed.render_as_string(hide_password=True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:TOP@SECRET@h/db",
        "postgresql://u:TOP@SECRET@h1,h2/db",
        "postgresql://u:TOPSECRET",
        "postgresql://u:TOP/SECRET",
        "postgresql://u:TOP,SECRET",
        "postgresql://u:TOP,SEC/RET@h:SECRET/db",
        "postgresql://h:SECRET,h2/db",
    ],
)
def test_no_part_of_a_password_is_said(url: str) -> None:
    with pytest.raises(DatabaseError, match="DATABASE_URL cannot be read") as refused:
        Database(url)
    assert "TOP" not in str(refused.value)
    assert "SEC" not in str(refused.value)


def test_a_password_with_a_comma_is_no_list_of_hosts() -> None:
    parsed = parse_url("postgresql://u:TOP,SEC/RET@h/db")
    assert (parsed.host, parsed.password) == ("h", "TOP,SEC/RET")


@pytest.mark.parametrize("host", ["%2Frun%2Fpg:5433", "%2Frun%2Fpg"])
def test_a_folder_of_sockets_stands_where_a_host_stands(host: str) -> None:
    parsed = parse_url(f"postgresql://u:p%2Fw@{host}/db")
    assert (parsed.host, parsed.password, parsed.query["host"]) == (None, "p/w", "/run/pg")
    assert parsed.query.get("port") == ("5433" if ":" in host else None)


def test_one_host_is_what_it_always_was() -> None:
    assert str(parse_url("postgresql://u@h:1/db")) == "postgresql://u@h:1/db"
    assert parse_url("sqlite:///a,b.db").database == "a,b.db"


@pytest.mark.parametrize(
    "url", ["postgresql://u@h1:x,h2/db", "postgresql://u@h1:1:2,h2/db", "nonsense", "postgresql://u@h:x/db"]
)
def test_a_url_that_nobody_could_use_is_refused_in_words(url: str) -> None:
    with pytest.raises((ArgumentError, ValueError)):
        parse_url(url)
    with pytest.raises(DatabaseError, match="DATABASE_URL cannot be read"):
        Database(url)


# --- What others have set up -----------------------------------------------------------------------------------------


def test_a_database_that_cannot_keep_every_text_is_refused(postgres_server: PostgresServer) -> None:
    """An answer that was paid for and cannot be written down would be tried for ever."""
    postgres_server.admin("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    db = Database(postgres_server.url("latin"))
    with pytest.raises(DatabaseError, match="keeps its texts as LATIN1"):
        migrate(db.engine)
    db.close()
    postgres_server.admin("DROP DATABASE latin")


async def test_defaults_of_the_role_change_nothing(postgres_server: PostgresServer) -> None:
    """Under SERIALIZABLE an index made beside others would wait for our own lock, and claims would fail each other."""
    name = postgres_server.create()
    postgres_server.admin(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    place = Place(postgres_server.url(name))
    db = place.open()
    assert migrate(db.engine, patience=5)
    assert await db.write(lambda tx: tx.value("SHOW transaction_isolation")) == "read committed"
    assert await db.read(lambda tx: tx.value("SHOW transaction_isolation")) == "repeatable read"
    await db.notify("x")
    assert await db.write(lambda tx: tx.value("SHOW transaction_isolation")) == "read committed"
    place.close()


async def test_a_bell_that_cannot_connect_says_so_once(postgres_place: Place) -> None:
    db = postgres_place.open()
    bell = db.bell("w1", "postgresql://u@127.0.0.1:1/db")
    assert bell is not None
    told: list[str] = []
    unsubscribe = subscribe(lambda event, fields: told.append(event))
    bell.open(lambda: None)

    async def said() -> int:
        return told.count("bell.lost")

    await eventually(said, bool, 5)
    await asyncio.sleep(0.5)
    bell.close()
    unsubscribe()
    assert told.count("bell.lost") == 1
    with pytest.raises(DatabaseError, match="DATABASE_LISTEN_URL cannot be read"):
        db.bell("w1", "postgresql://h:x/db")
