"""Both databases for tests: a SQLite file, and a real PostgreSQL server of our own, started once and ended by its
pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlmodel import SQLModel

import pipeline.models  # noqa: F401 - declares the tables
from pipeline.db import Database, Tx
from pipeline.db.migrate import migrate

MISSING = "PostgreSQL's server programs are not installed (Debian: apt install postgresql)"


class Time:
    """What is added to the database's clock."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def passes(self, seconds: float) -> None:
        self.ahead += seconds

    def __call__(self) -> float:
        return self.ahead


@dataclass
class Place:
    """One empty, migrated database, which several processes, or several Database objects, may open."""

    url: str
    time: Time = field(default_factory=Time)
    opened: list[Database] = field(default_factory=list)

    def open(self) -> Database:
        """Another Database on the same place, closed at the end of the test."""
        self.opened.append(Database(self.url, ahead=self.time))
        return self.opened[-1]

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()


@contextmanager
def transaction(db: Database) -> Iterator[Tx]:
    """A transaction that a test holds open by hand, beside the writer."""
    with db.engine.connect() as connection:
        yield db._begin_write(connection)
        connection.commit()


class SqlitePlaces:
    """Copies of one migrated file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._template = folder / "template.db"
        db = Database(f"sqlite:///{self._template}")
        migrate(db.engine)
        db.close()

    @contextmanager
    def new(self) -> Iterator[Place]:
        path = self._folder / f"{next(self._numbers)}.db"
        shutil.copy(self._template, path)
        place = Place(f"sqlite:///{path}")
        yield place
        place.close()


@dataclass
class PostgresServer:
    """A server process of our own."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=count)
    spare: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def admin(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def new(self) -> Iterator[Place]:
        """An empty, migrated database; emptied and used again, since making one takes a third of a second."""
        name = self.spare.pop() if self.spare else self.create("dailies_template")
        place = Place(self.url(name))
        yield place
        place.close()
        self.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("; ".join(f"DELETE FROM {table}" for table in SQLModel.metadata.tables))
        self.spare.append(name)

    def create(self, template: str = "template1") -> str:
        name = f"test_{next(self.numbers)}"
        self.admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def restart(self) -> None:
        """An immediate stop, as a crash would be, and a start on the same port."""
        self.crash()
        self.start()

    def crash(self) -> None:
        """An immediate stop, as a crash would be."""
        self.stop(signal.SIGQUIT)

    def start(self) -> None:
        """Start again on the same port."""
        self.process = start_server(self.folder, self.port)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)
        self.process.wait(30)


def binaries() -> Path | None:
    """Where the newest server's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def start_postgres(parent: Path | None = None) -> PostgresServer:
    """A new server on a free port of 127.0.0.1, with a migrated template; its files are in `parent`, or where
    temporary ones are. Skips where it is not installed."""
    programs = binaries()
    if programs is None:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="dailies-postgres-", dir=parent))
    user = server_user()
    if user:
        shutil.chown(folder, user)
    initdb = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = PostgresServer(folder, port, start_server(folder, port))
    server.admin("CREATE DATABASE dailies_template")
    db = Database(server.url("dailies_template"))
    migrate(db.engine)
    db.close()
    return server


def server_user() -> str | None:
    """The server refuses to be root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    programs = binaries()
    assert programs is not None
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "shared_buffers": "32MB",
        "deadlock_timeout": "100ms",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *options],
            user=server_user(),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 30
    while not _answers(port):
        assert process.poll() is None, f"PostgreSQL ended: {(folder / 'log').read_text()}"
        assert time.monotonic() < deadline, f"PostgreSQL does not start: {(folder / 'log').read_text()}"
        time.sleep(0.02)
    return process


def _answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True
