"""Databases for tests: `db` is empty and migrated, on both engines in turn."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.clock import Clock
from pipeline.db import Database
from pipeline.keys import Box
from pipeline.links import Links
from pipeline.outbox import Outbox, Signatory
from pipeline.storage import LocalStorage
from tests.pipeline.engines import Place, PostgresServer, SqlitePlaces, Time, start_postgres
from tests.pipeline.yard import Yard


@pytest.fixture(scope="session")
def sqlite_places(tmp_path_factory: pytest.TempPathFactory) -> SqlitePlaces:
    return SqlitePlaces(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = start_postgres()
    yield server
    server.stop()
    shutil.rmtree(server.folder)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty database on each engine."""
    maker = request.getfixturevalue("sqlite_places" if request.param == "sqlite" else "postgres_server")
    with maker.new() as place:
        yield place


@pytest.fixture
def sqlite_place(sqlite_places: SqlitePlaces) -> Iterator[Place]:
    with sqlite_places.new() as place:
        yield place


@pytest.fixture
def postgres_place(postgres_server: PostgresServer) -> Iterator[Place]:
    with postgres_server.new() as place:
        yield place


@pytest.fixture
def db(place: Place) -> Database:
    return place.open()


@pytest.fixture
def time(place: Place) -> Time:
    """Move the database's clock: `time.passes(10)`."""
    return place.time


@pytest.fixture
async def yard(db: Database, place: Place, time: Time, tmp_path: Path) -> AsyncIterator[Yard]:
    """What maintenance cleans, empty, on each engine."""
    storage = LocalStorage(tmp_path / "files")
    clock = Clock(host=lambda: 0.0)
    clock.sync(await db.read(lambda tx: tx.now))
    outbox = Outbox(
        links=Links("https://x.example", None, ["secret"], 100),
        signatory=Signatory(Box(["secret"], "webhook"), []),
        client=None,  # type: ignore[arg-type] # nothing is sent here
        policy=None,  # type: ignore[arg-type]
        timeout=1,
        clock=clock,
        uniform=lambda: 0.5,
    )
    yield Yard(db, storage, tmp_path, outbox, clock, time)
    await storage.close()
