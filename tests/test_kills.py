"""`dailies serve` is killed with -9 ten times while 200 generations are under way. Nothing is paid twice, lost or
unanswered.

The mock provider and the receiver live elsewhere and stay up, as real ones would. The client repeats what was not
answered, with its key, as `dailies submit` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.keys import local_secret
from pipeline.media import probe
from pipeline.server import HttpServer
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from tests.house import FAST, eventually
from webhooks.receiver import Received, create_receiver

pytestmark = pytest.mark.anyio

GENERATIONS = 200
KILLS = 10
SPEED = 15.0
IN_FLIGHT = 20
"""Two seconds per generation and twenty at a time: the work outlasts the kills."""
TERMINAL = {"completed", "failed", "cancelled"}


class Service:
    """`dailies serve` as a process that can be killed and started again on the same address."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        log = (self._folder / "service.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline", "serve", cwd=self._folder, env=self._environment, stdout=log, stderr=log
        )
        log.close()

    async def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.process.wait()


@asynccontextmanager
async def open_stage(
    folder: Path, mode: str
) -> AsyncIterator[tuple[Service, httpx.AsyncClient, httpx.AsyncClient, list[Received]]]:
    """A mock and a receiver that stay, and a service that does not."""
    secret = local_secret(folder / "secrets", "WEBHOOK_SECRET", lambda: "whsec_" + "A" * 32)
    received: list[Received] = []
    receiver = create_receiver([secret], on_event=received.append, now=time.time)
    async with (
        MockServer(create_mock(folder / "mock.db", speed=SPEED)) as mock,
        HttpServer(receiver, "127.0.0.1", 0) as hook,
        httpx.AsyncClient(base_url=mock.url) as provider,
    ):
        port = _free_port()
        settings: dict[str, Any] = FAST | {
            "data_dir": folder,
            "port": port,
            "provider": "mock",
            "mock_url": mock.url,
            "mock_recovery": mode,
            "mock_speed": SPEED,
            "webhook_url": f"http://127.0.0.1:{hook.port}/hook",
            "webhook_schedule": "0,0.2,0.5,1,1,1,1,1",
            "max_in_flight": IN_FLIGHT,
            "lease": 1.5,
            "submit_timeout": 4,
            "log_format": "json",
            "log_level": "info",
        }
        environment = os.environ | {name.upper(): str(value) for name, value in settings.items()}
        service = Service(folder, environment)
        await service.start()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as api:
                yield service, api, provider, received
        finally:
            await service.end(signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port: int = probe_socket.getsockname()[1]
        return port


async def submit(api: httpx.AsyncClient, number: int) -> str:
    """POST until it is answered, always with the same key."""
    while True:
        try:
            response = await api.post(
                "/api/generations",
                json={"prompt": f"fox {number}", "parameters": {"duration": 1}, "userId": f"user_{number % 7}"},
                headers={"Idempotency-Key": f"order-{number}"},
            )
        except httpx.TransportError:
            await asyncio.sleep(0.1)
            continue
        if response.status_code in {200, 202}:
            generation_id: str = response.json()["id"]
            return generation_id
        assert response.status_code in {409, 503}, response.text
        await asyncio.sleep(0.1)


async def kill_often(service: Service, api: httpx.AsyncClient, dice: random.Random) -> None:
    """Kill it at a random moment of its work, and start it again."""
    for _ in range(KILLS):
        await eventually(lambda: answers(api), bool, 20)
        await asyncio.sleep(dice.uniform(0.1, 1.2))
        await service.end(signal.SIGKILL)
        await service.start()


async def answers(api: httpx.AsyncClient) -> bool:
    """Whether the service is up."""
    try:
        return (await api.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def listed(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Every generation by the API's own list."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": "100"} | ({"after": cursor} if cursor else {})
        try:
            page = (await api.get("/api/generations", params=query)).json()
        except httpx.TransportError:
            return []
        found += page["data"]
        cursor = page["nextCursor"]
        if cursor is None:
            return found


async def run(folder: Path, mode: str, seed: int) -> dict[str, Any]:
    """The whole drill; the seed is in the test's name."""
    async with open_stage(folder, mode) as (service, api, provider, received):
        killer = asyncio.create_task(kill_often(service, api, random.Random(seed)))
        ids = await asyncio.gather(*(submit(api, number) for number in range(GENERATIONS)))
        await killer
        generations = await eventually(
            lambda: listed(api),
            lambda seen: len(seen) >= GENERATIONS and all(g["status"] in TERMINAL for g in seen),
            60,
        )

        async def told() -> set[str]:
            return {json.loads(hook.body)["jobId"] for hook in received}

        await eventually(told, lambda seen: seen == set(ids), 20)
        ledger = (await provider.get("/ledger", params={"limit": "1000"})).json()
        return {"ids": ids, "generations": generations, "ledger": ledger["entries"], "received": received}


def check_answers(result: dict[str, Any]) -> None:
    """Each generation has one row and one terminal event, which verified."""
    assert len(set(result["ids"])) == len(result["generations"]) == GENERATIONS
    events: dict[str, set[str]] = {}
    for hook in result["received"]:
        assert hook.valid, hook.problem
        events.setdefault(json.loads(hook.body)["jobId"], set()).add(hook.headers["webhook-id"])
    assert {len(ids) for ids in events.values()} == {1}


async def test_200_generations_and_ten_kills_with_idempotency_keys(tmp_path):
    result = await run(tmp_path, "key", seed=20261124)
    check_answers(result)
    assert {g["status"] for g in result["generations"]} == {"completed"}
    assert len(result["ledger"]) == GENERATIONS
    videos = list((tmp_path / "files" / "default").rglob("*.mp4"))
    assert len(videos) == GENERATIONS
    assert all(probe(video).duration > 0 for video in videos)


async def test_200_generations_and_ten_kills_where_the_provider_offers_nothing(tmp_path):
    result = await run(tmp_path, "none", seed=20261125)
    check_answers(result)
    assert len(result["ledger"]) <= GENERATIONS
    assert len({entry["prompt"] for entry in result["ledger"]}) == len(result["ledger"])
    short = [g for g in result["generations"] if g["status"] != "completed"]
    assert {g["error"]["code"] for g in short} <= {"submit_unknown"}
