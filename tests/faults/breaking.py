"""The faults: each does its worst for some seconds, puts everything right again, and says what it did."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.faults.stage import Stage
from tests.pipeline.engines import PostgresServer


@dataclass(frozen=True, slots=True)
class Fault:
    """A name, and what is done to a stage for so many seconds; returns what was done, in words."""

    name: str
    run: Callable[[Stage, float], Awaitable[str]]
    seconds: float | None = None
    """Of its own, where it needs another time than the rest."""


async def nothing(stage: Stage, seconds: float) -> str:
    """The control: no fault at all."""
    await asyncio.sleep(seconds)
    return "nothing"


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def _server(stage: Stage) -> PostgresServer:
    assert stage.server is not None
    return stage.server


async def restart(stage: Stage, seconds: float) -> str:
    """An immediate shutdown, as a crash, and a start after a while."""
    server = _server(stage)
    await asyncio.to_thread(server.crash)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)
    return "stopped at once, started again"


_OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'dailies%'"


async def end_backends(stage: Stage, seconds: float) -> str:
    """Somebody ends a connection of ours, in whatever it is doing, ten times a second."""
    ended, deadline = 0, time.monotonic() + seconds
    statement = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OTHERS} ORDER BY random() LIMIT 1"
    async with await psycopg.AsyncConnection.connect(_server(stage).url(stage.name), autocommit=True) as admin:
        while time.monotonic() < deadline:
            ended += (await admin.execute(statement)).rowcount
            await asyncio.sleep(0.1)
    return f"{ended} backends ended"


async def exhaust(stage: Stage, seconds: float) -> str:
    """Others hold every connection that the server has, and take ours as soon as they break."""
    url, held, broken = _server(stage).url(stage.name), ExitStack(), 0
    deadline = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as admin, held:
        ours = [row[0] for row in admin.execute(f"SELECT pid FROM pg_stat_activity WHERE {_OTHERS}")]
        while time.monotonic() < deadline:
            taken = await asyncio.to_thread(_grab, url, held)
            if ours:
                broken += admin.execute("SELECT pg_terminate_backend(%s)", [ours.pop()]).rowcount
            await asyncio.sleep(0 if taken else 0.05)
        (count,) = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        ).fetchone()
    return f"all {count} connections taken, {broken} of ours ended"


def _grab(url: str, held: ExitStack) -> int:
    """As many connections as there are."""
    taken = 0
    with suppress(psycopg.OperationalError):
        while True:
            held.callback(psycopg.connect(url, connect_timeout=5, application_name="greedy").close)
            taken += 1
    return taken


async def lose_commits(stage: Stage, seconds: float) -> str:
    """Of the COMMITs a tenth lose their connection: half before the server hears of them, half after."""
    assert stage.proxy is not None
    before, stage.proxy.lose = stage.proxy.lost, 0.1
    await asyncio.sleep(seconds)
    stage.proxy.lose = 0.0
    return f"{stage.proxy.lost - before} COMMITs without an answer"


async def deafen(stage: Stage, seconds: float) -> str:
    """The connections that listen stay open, and nothing gets through any more."""
    assert stage.proxy is not None
    before, deaf = stage.proxy.listening, stage.proxy.swallow()
    await asyncio.sleep(seconds)
    return f"{deaf} listeners deaf, {stage.proxy.listening - before} made anew"


async def hold_rows(stage: Stage, seconds: float) -> str:
    """A session locks every job and lane there is and does nothing, twice."""
    async with await psycopg.AsyncConnection.connect(_server(stage).url(stage.name)) as idle:
        for _ in range(2):
            found = await _lock_all(idle)
            await asyncio.sleep(seconds / 2)
            await idle.rollback()
    return f"{found} jobs and all lanes locked"


async def _lock_all(idle: psycopg.AsyncConnection) -> int:
    """How many jobs it holds now. Whoever waits crosswise for one of ours may be the one that the server gives up."""
    for _ in range(20):
        try:
            found = await idle.execute("SELECT id FROM job WHERE finished_at IS NULL ORDER BY id FOR UPDATE")
            await idle.execute("SELECT name FROM lane ORDER BY name FOR UPDATE")
        except psycopg.errors.DeadlockDetected:
            await idle.rollback()
        else:
            return found.rowcount
    raise AssertionError("twenty deadlocks in a row")


async def fill_tables(stage: Stage, seconds: float) -> str:
    """The disk of the server is full: no table can grow."""
    async with _full(_disk_of(_server(stage))):
        await asyncio.sleep(seconds)
    return "no byte left"


async def fill_log(stage: Stage, seconds: float) -> str:
    """The disk is full, and the write-ahead log needs its next file: the server ends itself."""
    server = _server(stage)
    async with _full(_disk_of(server)):
        await asyncio.to_thread(_switch_log, server)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.crash)
    await asyncio.to_thread(server.start)
    return "no byte left; the server ended itself, started again"


def _switch_log(server: PostgresServer) -> None:
    with suppress(psycopg.OperationalError):
        for _ in range(100):
            server.admin("SELECT pg_switch_wal(); CHECKPOINT")
        raise AssertionError("the write-ahead log found room on a full disk")


def _disk_of(server: PostgresServer) -> Path:
    return server.folder


_FUNCTION = "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $${}$$"


async def refuse_rows(stage: Stage, seconds: float) -> str:
    """As a full disk, where none can be made: the server says disk_full to whoever adds a row."""
    tables = ("generation", "job", "submission", "timeline", "webhook_event", "webhook_delivery", "webhook_attempt")
    server = _server(stage)
    full = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'"
    async with await psycopg.AsyncConnection.connect(server.url(stage.name), autocommit=True) as admin:
        await admin.execute(_FUNCTION.format(f"BEGIN {full}; END"))
        for table in tables:
            trigger = f"CREATE OR REPLACE TRIGGER full_disk BEFORE INSERT ON {table}"
            await admin.execute(f"{trigger} EXECUTE FUNCTION full_disk()")
        await asyncio.sleep(seconds)
        await admin.execute(_FUNCTION.format("BEGIN RETURN NULL; END"))  # dropping it would wait for locks
    return "every INSERT refused"


# --- SQLite ----------------------------------------------------------------------------------------------------------


def _file(stage: Stage) -> Path:
    return Path(stage.db.engine.url.database or "")


async def storm(stage: Stage, seconds: float) -> str:
    """Another process takes the lock again and again, each time for up to seconds."""
    script = Path(__file__).with_name("storm.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(_file(stage)), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return f"{said.decode().strip()} locks, the longest of 2 s"


async def fill_disk(stage: Stage, seconds: float) -> str:
    """The disk of the database, the files and the logs is full."""
    async with _full(stage.folder):
        await asyncio.sleep(seconds)
    return "no byte left"


async def forbid_growth(stage: Stage, seconds: float) -> str:
    """No file of the processes may be longer than 64 KiB: whatever writes behind that fails."""
    for pid in stage.pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))
    await asyncio.sleep(seconds)
    for pid in stage.pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "every write behind 64 KiB refused"


# --- disks -----------------------------------------------------------------------------------------------------------


def mount(folder: Path, megabytes: int) -> bool:
    """A small disk of its own, where this machine allows that."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


@asynccontextmanager
async def _full(disk: Path) -> AsyncIterator[None]:
    """Take what is left of a disk, and what becomes free of it."""
    filler = disk / "filler"

    async def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while True:
                with suppress(OSError):
                    while file.write(b"\0" * 4096) == 4096:
                        pass
                await asyncio.sleep(0.05)

    filling = asyncio.create_task(fill())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        filling.cancel()
        await asyncio.wait({filling})
        filler.unlink()
