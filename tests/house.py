"""A whole house for tests: API, worker, mock provider and receiver, over real sockets, on a database of its own."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipeline.api import Service
from pipeline.app import Plant, make_api, make_worker, open_plant
from pipeline.config import Settings
from pipeline.server import HttpServer
from pipeline.worker import run_until
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from tests.contract import conforms
from tests.everyone import hasten
from webhooks.receiver import Received, create_receiver

FAST = {
    "provider": "mock",
    "allowed_networks": "127.0.0.0/8,::1/128",
    "retry_base": 0.05,
    "retry_max": 0.2,
    "poll_interval": 0.1,
    "webhook_schedule": "0,0.05,0.1,0.2,0.2,0.2",
    "lane_pause": 0.3,
    "webhook_timeout": 3,
    "webhook_pause": 0.05,
    "log_level": "warning",
}


def make_settings(folder: Path, **values: Any) -> Settings:
    """Settings of a test: nothing from the environment's files, everything quick."""
    return Settings(_env_file=None, data_dir=folder, **(FAST | values))  # type: ignore[call-arg]


@dataclass
class House:
    plant: Plant
    mock: MockServer
    api: httpx.AsyncClient
    provider: httpx.AsyncClient
    service: Service
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def submit(self, prompt: str, **members: Any) -> dict[str, Any]:
        """POST a generation and return its body; anything but 202 fails."""
        response = await self.api.post("/api/generations", json={"prompt": prompt, **members})
        assert response.status_code == 202, response.text
        body: dict[str, Any] = response.json()
        return body

    async def get(self, generation_id: str) -> dict[str, Any]:
        body: dict[str, Any] = (await self.api.get(f"/api/generations/{generation_id}")).json()
        return body

    async def ended(self, generation_id: str, seconds: float = 15.0) -> dict[str, Any]:
        """The generation once it has ended."""
        return await eventually(
            lambda: self.get(generation_id), lambda g: g["status"] in {"completed", "failed", "cancelled"}, seconds
        )

    async def reached(self, generation_id: str, stage: str, seconds: float = 10.0) -> dict[str, Any]:
        """The generation once it is at a stage."""
        return await eventually(lambda: self.get(generation_id), lambda g: g["stage"] == stage, seconds)

    async def timeline(self, generation_id: str) -> list[str]:
        body = (await self.api.get(f"/api/generations/{generation_id}/events")).json()
        return [line["event"] for line in body["data"]]

    async def ledger(self) -> list[dict[str, Any]]:
        """What the provider accepted, by its own account."""
        body = (await self.provider.get("/ledger")).json()
        rows: list[dict[str, Any]] = body["entries"]
        return rows

    async def webhooks(self, count: int, seconds: float = 10.0) -> list[Received]:
        """The first `count` verified webhooks."""

        async def now() -> list[Received]:
            return self.received

        return await eventually(now, lambda received: len(received) >= count, seconds)


async def eventually(look: Callable[[], Any], good: Callable[[Any], bool], seconds: float) -> Any:
    """Look again and again until it is good; fails with what was last seen."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, f"still not so after {seconds} s: {seen}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def open_house(
    folder: Path,
    *,
    work: bool = True,
    speed: float = 100.0,
    everyone: Callable[[str], dict[str, Any]] | None = None,
    **values: Any,
) -> AsyncIterator[House]:
    """Everything started; with `work` False no worker runs. `everyone` makes settings from the mock's address, with
    which every provider can be asked (`tests.everyone`)."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        ringing = await stack.enter_async_context(httpx.AsyncClient())
        mock = await stack.enter_async_context(MockServer(create_mock(folder / "mock.db", speed=speed, client=ringing)))
        received: list[Received] = []
        answers: list[int] = []
        secrets: list[str] = []
        receiver = create_receiver(
            lambda: secrets,
            on_event=received.append,
            now=time.time,
            respond=lambda _: answers.pop(0) if answers else None,
        )
        hook = await stack.enter_async_context(HttpServer(receiver, "127.0.0.1", 0))
        port = free_port()
        near = {"public_url": f"http://127.0.0.1:{port}"} | everyone(mock.url) if everyone else {}
        settings = make_settings(
            folder,
            **{"mock_url": mock.url, "mock_speed": speed, "webhook_url": f"http://127.0.0.1:{hook.port}/hook"}
            | {"port": port}
            | near
            | values,
        )
        plant = await stack.enter_async_context(open_plant(settings))
        if everyone:
            hasten(plant, speed)
        secrets[:] = plant.secrets.webhook
        app = make_api(plant)
        server = await stack.enter_async_context(HttpServer(app, "127.0.0.1", settings.port))
        base = f"http://127.0.0.1:{server.port}"
        hooks = {"response": [conforms]}
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=10, event_hooks=hooks))
        provider = await stack.enter_async_context(httpx.AsyncClient(base_url=mock.url))
        stop = asyncio.Event()
        worker = asyncio.create_task(run_until(make_worker(plant), stop)) if work else None
        try:
            yield House(plant, mock, api, provider, app.state.service, received, answers)
        finally:
            stop.set()
            if worker is not None:
                await worker


def free_port() -> int:
    """A port below those that the system gives to outgoing connections, of which other tests make many meanwhile."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
