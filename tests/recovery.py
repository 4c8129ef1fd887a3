"""How soon others go on with the work of a worker that is killed, stopped or replaced: `make recovery` prints it.

The API, the provider and the receiver live in this process and are never touched; workers are processes of the command
line with default settings. A gate before the provider lets polls hang, a receiver takes webhooks and never answers, and
submits are answered late, so that a worker is in the middle of turns of every kind when it goes.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.app import make_api, open_plant
from pipeline.db import Database, Row
from pipeline.drill.history import Caps, check
from pipeline.server import HttpServer
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from tests.house import eventually, free_port, make_settings
from tests.pipeline.engines import SqlitePlaces, start_postgres

SPEED = 20.0
START_SECONDS = 60.0
ROOT = Path(__file__).parents[1]


class Gate:
    """Lets polls of the mock hang while it is not open."""

    def __init__(self, app: ASGIApp, opened: asyncio.Event) -> None:
        self._app, self._opened = app, opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and "/v1/videos/" in scope["path"]:
            await self._opened.wait()
        await self._app(scope, receive, send)


@dataclass
class Crew:
    """A service whose workers come and go."""

    folder: Path
    db: Database
    api: httpx.AsyncClient
    environment: dict[str, str]
    gate: asyncio.Event
    workers: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def hire(self, **settings: object) -> str:
        """Start a worker; its identity once it has signed in."""
        given = {name.upper(): str(value) for name, value in settings.items()}
        with (self.folder / "workers.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pipeline",
                "worker",
                env=os.environ | {"PYTHONPATH": str(ROOT)} | self.environment | given,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

        async def signed_in() -> str | None:
            return await self.db.read(lambda tx: tx.value("SELECT id FROM worker WHERE pid = :p", {"p": process.pid}))

        name: str = await eventually(signed_in, bool, START_SECONDS)
        self.workers[name] = process
        return name

    async def end(self, worker: str, how: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        process = self.workers.pop(worker)
        if process.returncode is None:
            process.send_signal(how)
        await process.wait()

    async def held(self) -> list[Row]:
        """The jobs that somebody holds."""
        return await self.db.read(
            lambda tx: tx.all("SELECT id, step, fence, locked_by FROM job WHERE status = 'processing'")
        )

    async def ask(self, prompt: str, count: int = 1) -> None:
        for _ in range(count):
            response = await self.api.post("/api/generations", json={"prompt": prompt, "parameters": {"duration": 1}})
            assert response.status_code == 202, response.text

    async def gone(self, worker: str, *, but: frozenset[str] = frozenset(), seconds: float = 60.0) -> float:
        """When nothing is held by a worker any more, save at the steps of `but`; by the monotonic clock."""

        async def left() -> list[Row]:
            return [row for row in await self.held() if row["locked_by"] == worker and row["step"] not in but]

        await eventually(left, lambda rows: not rows, seconds)
        return time.monotonic()

    async def taken(self, jobs: Mapping[int, int], seconds: float = 60.0) -> float:
        """When each of these jobs has been claimed anew, by its id and the fence that it had."""

        async def fences() -> dict[int, int]:
            rows = await self.db.read(lambda tx: tx.all("SELECT id, fence FROM job"))
            return {row["id"]: row["fence"] for row in rows}

        await eventually(fences, lambda now: all(now[job] > fence for job, fence in jobs.items()), seconds)
        return time.monotonic()

    def jobs_of(self, rows: list[Row], worker: str) -> dict[int, int]:
        return {row["id"]: row["fence"] for row in rows if row["locked_by"] == worker}


@asynccontextmanager
async def open_crew(folder: Path, url: str, *, hanging_webhooks: bool = True, **values: Any) -> AsyncIterator[Crew]:
    """Everything but workers, on the database of `url`; settings that are not given have their defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    gate = asyncio.Event()
    gate.set()
    async with AsyncExitStack() as stack:
        app = create_mock(folder / "mock.db", speed=SPEED)
        app.add_middleware(Gate, opened=gate)
        mock = await stack.enter_async_context(MockServer(app))
        over = asyncio.Event()
        hook = await stack.enter_async_context(HttpServer(_never_answering(over), "127.0.0.1", 0))
        stack.callback(over.set)
        settings: dict[str, Any] = {"provider": "mock", "mock_url": mock.url, "mock_speed": SPEED, "port": free_port()}
        settings |= {"allowed_networks": "127.0.0.0/8", "log_level": "warning", "database_url": url}
        settings |= {"secret_key": "k" * 43, "webhook_secret": "whsec_" + "A" * 32}
        settings |= {"webhook_timeout": 60, "webhook_url": f"http://127.0.0.1:{hook.port}/"}
        if not hanging_webhooks:
            del settings["webhook_url"]
        settings |= values
        defaults = {name: value for name, value in settings.items() if value is not None}
        plant = await stack.enter_async_context(open_plant(make_plain(folder, **defaults)))
        server = await stack.enter_async_context(HttpServer(make_api(plant), "127.0.0.1", settings["port"]))
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30))
        environment = {name.upper(): str(value) for name, value in (defaults | {"data_dir": folder}).items()}
        crew = Crew(folder, plant.db, api, environment, gate)
        try:
            yield crew
        finally:
            gate.set()
            for worker in list(crew.workers):
                await crew.end(worker, signal.SIGKILL)


def _never_answering(over: asyncio.Event) -> Starlette:
    """A receiver that takes every webhook and answers none until all is over."""

    async def take(request: Request) -> Response:
        await over.wait()
        return Response(status_code=503)

    return Starlette(routes=[Route("/", take, methods=["POST"])])


def make_plain(folder: Path, **values: Any) -> Any:
    """Settings with their defaults, but for these."""
    plain = {"retry_base", "retry_max", "poll_interval", "webhook_schedule", "lane_pause", "webhook_pause"}
    settings = make_settings(folder, **values)
    fields = type(settings).model_fields
    return settings.model_copy(update={name: fields[name].default for name in plain - values.keys()})


async def kills(crew: Crew, victims: int, dice: random.Random) -> list[float]:
    """Seconds from kill -9 of each of some busy workers until all that it held is in other hands."""
    names = [await crew.hire(slots_submit=3) for _ in range(victims)]
    await crew.ask("[[slow-submit:90]] fox", 3 * victims)
    rows = await eventually(crew.held, lambda rows: {row["locked_by"] for row in rows} >= set(names), 30)
    survivor = await crew.hire(slots_submit=100)
    taken = await asyncio.gather(*(_kill(crew, name, dice.uniform(0.0, 4.0)) for name in names))
    await crew.end(survivor, signal.SIGTERM)
    assert rows
    return taken


async def _kill(crew: Crew, worker: str, after: float) -> float:
    await asyncio.sleep(after)
    process = crew.workers[worker]
    process.kill()
    killed = time.monotonic()
    jobs = crew.jobs_of(await crew.held(), worker)
    assert jobs, "it held nothing"
    seconds = await crew.taken(jobs) - killed
    await crew.end(worker, signal.SIGKILL)
    return seconds


@dataclass(frozen=True, slots=True)
class Stop:
    """A graceful stop: how many turns of which steps were under way, and the seconds until they were handed back,
    until another worker had taken them, and until the process had ended."""

    turns: dict[str, int]
    handed_back: float
    taken: float
    ended: float


async def graceful(crew: Crew) -> Stop:
    """SIGTERM to a worker that submits, polls and delivers, beside one that idles."""
    stopping = await crew.hire()
    await crew.ask("fox", 4)
    await eventually(crew.held, lambda rows: sum(row["step"] == "deliver" for row in rows) >= 4, 60)
    crew.gate.clear()
    await crew.ask("[[slow-submit:8]] fox", 2)
    await crew.ask("fox", 4)
    wanted = {"deliver": 4, "poll": 4, "submit": 2}
    await eventually(crew.held, lambda rows: _count(rows) == wanted, 60)
    other = await crew.hire()
    rows = await crew.held()
    jobs = {row["id"]: row["fence"] for row in rows if row["step"] != "submit"}
    process = crew.workers[stopping]
    process.terminate()
    at = time.monotonic()
    paid = frozenset({"submit"})
    back, taken = await asyncio.gather(crew.gone(stopping, but=paid), crew.taken(jobs))
    await process.wait()
    ended = time.monotonic()
    crew.gate.set()
    await crew.end(other, signal.SIGTERM)
    return Stop(_count(rows), back - at, taken - at, ended - at)


def _count(rows: list[Row]) -> dict[str, int]:
    steps = sorted(str(row["step"]) for row in rows)
    return {step: steps.count(step) for step in dict.fromkeys(steps)}


async def rolling(crew: Crew, *, workers: int, seconds: float, every: float, restart: bool) -> list[float]:
    """Seconds from request to end of each generation of a steady load, with or without every worker being replaced
    meanwhile, one after the other."""
    names = [await crew.hire() for _ in range(workers)]
    replacing = asyncio.create_task(_replace(crew, names)) if restart else None
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds or not (replacing is None or replacing.done()):
        await crew.ask("fox")
        count += 1
        await asyncio.sleep(max(0.0, begun + count * every - time.monotonic()))
    if replacing is not None:
        await replacing
    ended = "SELECT created_at, finished_at, status FROM generation WHERE status IN ('completed', 'failed')"
    rows = await eventually(lambda: crew.db.read(lambda tx: tx.all(ended)), lambda rows: len(rows) == count, 60)
    assert {row["status"] for row in rows} == {"completed"}
    assert await check(crew.db, Caps()) == []
    return [(row["finished_at"] - row["created_at"]) / 1000 for row in rows]


async def _replace(crew: Crew, names: list[str]) -> None:
    for name in names:
        await asyncio.sleep(1.0)
        await crew.end(name, signal.SIGTERM)
        await crew.hire()


def spread(seconds: list[float]) -> str:
    """Least, half, nine of ten, most."""
    ordered = sorted(seconds)
    ranks = (0.0, 0.5, 0.9, 1.0)
    picked = [ordered[max(0, math.ceil(rank * len(ordered)) - 1)] for rank in ranks]
    return " / ".join(f"{value:.2f}" for value in picked)


@contextmanager
def places(engine: str, folder: Path) -> Iterator[Callable[[], Any]]:
    """Makes empty databases of an engine."""
    if engine == "sqlite":
        yield SqlitePlaces(folder).new
        return
    server = start_postgres()
    try:
        yield server.new
    finally:
        server.stop()
        shutil.rmtree(server.folder)


async def measure(engine: str, folder: Path, rounds: int, dice: random.Random) -> None:
    """Print everything about one engine."""
    with places(engine, folder) as new:
        taken: list[float] = []
        for number in range(rounds):
            with new() as place:
                async with open_crew(folder / f"kill{number}", place.url, hanging_webhooks=False) as crew:
                    taken += await kills(crew, 4, dice)
        print(f"| {engine} | taken over after kill -9, {len(taken)} kills | {spread(taken)} | 15 |", flush=True)
        stops: list[Stop] = []
        for number in range(3):
            with new() as place:
                async with open_crew(folder / f"stop{number}", place.url) as crew:
                    stops.append(await graceful(crew))
        turns = ", ".join(f"{count} {step}" for step, count in stops[0].turns.items())
        print(f"| {engine} | handed back after SIGTERM ({turns}) | {spread([s.handed_back for s in stops])} | 1 |")
        print(f"| {engine} | taken by another worker after SIGTERM | {spread([s.taken for s in stops])} | 1 |")
        print(f"| {engine} | process ended, once its submits were answered | {spread([s.ended for s in stops])} | |")
        for restart in (False, True):
            with new() as place:
                async with open_crew(folder / f"roll{restart}", place.url, hanging_webhooks=False) as crew:
                    times = await rolling(crew, workers=4, seconds=30, every=0.3, restart=restart)
            name = "4 workers replaced one by one" if restart else "undisturbed"
            print(f"| {engine} | {len(times)} generations, {name} | {spread(times)} | |", flush=True)


def main() -> None:
    """`python -m tests.recovery [seed]`."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(2**32)
    rounds = int(os.environ.get("RECOVERY_ROUNDS", "5"))
    print(f"Recovery, {datetime.now(UTC).date()}, seed {seed}. Seconds: least / half / nine of ten / most.\n")
    print("| database | what | seconds | bound |\n| --- | --- | --- | --- |")
    for engine in ("sqlite", "postgres"):
        folder = Path(tempfile.mkdtemp(prefix="dailies-recovery-"))
        asyncio.run(measure(engine, folder, rounds, random.Random(seed)))
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
