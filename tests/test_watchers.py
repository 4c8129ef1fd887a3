"""Many who watch one process: what they cost, and that none of them keeps it from ending."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from pipeline.api.broadcast import Pace
from pipeline.app import make_api, open_plant
from pipeline.server import HttpServer
from tests.house import FAST, eventually, free_port, make_settings, open_house
from tests.sse import lines, stream

pytestmark = pytest.mark.anyio

WATCHERS = 500
GENERATIONS = 50
FEW = 5
PER_WATCHER = 60_000_000 / WATCHERS
"""Bytes of memory."""


MANY_LINES = (
    "INSERT INTO timeline (generation_id, tenant_id, run, at, event)"
    " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)"
    " SELECT :id, 'default', 1, 0, 'retry' FROM n"
)
"""Seven megabytes of events: more than the network's buffers hold."""


class Raw:
    """A watcher who costs the test little: a socket and its bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self, text: str, seconds: float = 20) -> bytes:
        """Everything up to some text."""
        async with asyncio.timeout(seconds):
            return await self.reader.readuntil(text.encode())


@asynccontextmanager
async def watch(port: int, generation_id: str) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"/api/generations/{generation_id}/events"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


class Counting:
    """The process of `counting_api`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def counts(self) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        found: dict[str, int] = json.loads(await self._process.stdout.readline())
        return found


@asynccontextmanager
async def counting_api(folder: Path) -> AsyncIterator[Counting]:
    settings = FAST | {"data_dir": str(folder), "webhook_url": "", "mock_url": "http://127.0.0.1:9"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).parent / "counting_api.py",
        json.dumps(settings),
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield Counting(process, json.loads(await process.stdout.readline())["port"])
    process.stdin.close()
    assert await process.wait() == 0


async def reads_of_ends(api: httpx.AsyncClient, counting: Counting, watched: dict[str, list[Raw]]) -> int:
    """How often the database is read while each of these generations ends and all who watch it hear so."""
    before = await counting.counts()
    for generation_id, crowd in watched.items():
        await api.post(f"/api/generations/{generation_id}/cancel")
        await asyncio.gather(*(one.hear("event: end\n") for one in crowd))
    return (await counting.counts())["reads"] - before["reads"]


async def test_500_watchers_cost_little_memory_and_no_database_work_of_their_own(tmp_path):
    async with (
        counting_api(tmp_path) as counting,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{counting.port}") as api,
        AsyncExitStack() as stack,
    ):
        ids = [
            (await api.post("/api/generations", json={"prompt": f"fox {number}"})).json()["id"]
            for number in range(FEW + GENERATIONS)
        ]

        async def watch_all(chosen: list[str], each: int) -> dict[str, list[Raw]]:
            watched = {}
            for generation_id in chosen:
                crowd = [await stack.enter_async_context(watch(counting.port, generation_id)) for _ in range(each)]
                await asyncio.gather(*(one.hear("event: queued\n") for one in crowd))
                watched[generation_id] = crowd
            return watched

        few = await reads_of_ends(api, counting, await watch_all(ids[:FEW], 1))
        before = await counting.counts()
        watched = await watch_all(ids[FEW:], WATCHERS // GENERATIONS)
        crowd = sum(map(len, watched.values()))
        after = await counting.counts()
        many = await reads_of_ends(api, counting, {name: watched[name] for name in ids[FEW : 2 * FEW]})
        ended = await counting.counts()
    print(f"{crowd} watchers: {before} {after} {ended}; reads of {FEW} ends: {few} and {many}")
    assert crowd == WATCHERS
    assert (after["rss"] - before["rss"]) / crowd < PER_WATCHER
    assert (ended["rss"] - before["rss"]) / crowd < PER_WATCHER
    assert many <= few + FEW * 3


async def test_those_who_leave_leave_nothing_behind(tmp_path):
    async with open_house(tmp_path, work=False, max_watchers=20) as house:
        made = await house.submit("a fox")
        port = house.api.base_url.port
        assert port is not None
        for _ in range(5):
            async with AsyncExitStack() as stack:
                crowd = [await stack.enter_async_context(watch(port, made["id"])) for _ in range(20)]
                await asyncio.gather(*(one.hear("event: queued\n") for one in crowd))

            async def tasks() -> set[str]:
                return {name for task in asyncio.all_tasks() if "_leave_when_gone" in (name := repr(task.get_coro()))}

            await eventually(tasks, lambda left: not left, 5)
        assert not [task for task in asyncio.all_tasks() if "Broadcaster" in repr(task.get_coro())]


async def test_one_who_does_not_read_is_cut_off_and_resumes_where_they_were(tmp_path):
    settings = make_settings(tmp_path, webhook_url="", mock_url="http://127.0.0.1:9")
    async with open_plant(settings) as plant:
        app = make_api(plant)
        broadcaster = app.state.service.broadcaster
        broadcaster.pace = Pace(stuck=0.3)
        async with HttpServer(app, "127.0.0.1", 0) as server, httpx.AsyncClient() as api:
            base = f"http://127.0.0.1:{server.port}"
            made = (await api.post(f"{base}/api/generations", json={"prompt": "a long story"})).json()
            await plant.db.write(lambda tx: tx.run(MANY_LINES, {"id": made["id"]}))
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", server.port))
            path = f"/api/generations/{made['id']}/events"
            deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())

            async def watching() -> int:
                return broadcaster.watching

            await eventually(watching, lambda count: count == 1, 5)
            await eventually(watching, lambda count: count == 0, 10)
            heard = await asyncio.to_thread(_rest, deaf)
            assert b"0\r\n\r\n" not in heard
            last = heard.rpartition(b"id: ")[0].rpartition(b"id: ")[2].partition(b"\n")[0].decode()

            await api.post(f"{base}/api/generations/{made['id']}/cancel")
            async with stream(base, path, Last_Event_ID=last) as resumed:
                told = [int(event.data["id"]) for event in lines(await resumed.all())]
            history = [line["id"] for line in (await api.get(f"{base}{path}?lastEventId={last}")).json()["data"]]
    assert told[:1000] == history
    assert told == sorted(set(told))
    assert told[0] == int(last) + 1


def _rest(connection: socket.socket) -> bytes:
    """What was still on its way when the connection was cut."""
    heard = b""
    with connection, suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            heard += part
    return heard


async def test_dailies_serve_ends_within_two_seconds_though_20_watch(tmp_path):
    port = free_port()
    settings = FAST | {"data_dir": tmp_path, "port": port, "provider": "mock", "mock_speed": 0.01}
    settings |= {"mock_url": f"http://127.0.0.1:{free_port()}", "webhook_url": "", "log_format": "json"}
    environment = os.environ | {name.upper(): str(value) for name, value in settings.items()}
    log = (tmp_path / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", "serve", cwd=tmp_path, env=environment, stdout=log, stderr=log
    )
    log.close()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as api, AsyncExitStack() as stack:
        try:
            await eventually(lambda: _answers(api), bool, 30)
            made = (await api.post("/api/generations", json={"prompt": "a slow fox"})).json()
            crowd = [await stack.enter_async_context(watch(port, made["id"])) for _ in range(20)]
            await asyncio.gather(*(one.hear('"stage":"generating"') for one in crowd))
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rests = await asyncio.gather(*(asyncio.wait_for(one.reader.read(), 10) for one in crowd))
            assert await asyncio.wait_for(process.wait(), 10) == 0
            took = time.monotonic() - started
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert took < 2.0, (tmp_path / "log").read_text()
    assert all(rest.endswith(b"0\r\n\r\n") and b"event: end" not in rest for rest in rests)
    assert "rror" not in (tmp_path / "log").read_text()


async def _answers(api: httpx.AsyncClient) -> bool:
    try:
        return (await api.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False
