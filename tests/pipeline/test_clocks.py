"""Hosts whose clocks are ten minutes off change nothing but the times of their log lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.db import Database
from pipeline.drill.history import Caps, check
from pipeline.server import HttpServer
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from tests.house import FAST, eventually, free_port
from tests.pipeline.engines import Place
from webhooks.receiver import Received, create_receiver

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
OFF = 600.0
KEPT = 3600
CAP = 3
WEBHOOK_SECRET = "whsec_" + "A" * 32
PROMPTS = ["fox", "[[drop-submit:1]] fox", "[[slow-submit:3]] fox", "[[429:1]] fox", "[[503-poll:1]] fox", "fox", "fox"]


@asynccontextmanager
async def process(role: str, skew: float, folder: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    """One process of the command line, on a host whose clock is off by so many seconds."""
    env = os.environ | environment | {"SKEW": str(skew), "PYTHONPATH": str(ROOT)}
    with (folder / f"{role}{skew:+.0f}.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.skewed", role, env=env, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        if child.returncode is None:
            child.terminate()
        assert await child.wait() == 0, (folder / f"{role}{skew:+.0f}.log").read_text()


@asynccontextmanager
async def open_stage(folder: Path, url: str) -> AsyncIterator[tuple[httpx.AsyncClient, list[Received]]]:
    """An API that is behind, a worker that is ahead and one that is behind; provider and receiver are right."""
    received: list[Received] = []
    receiver = create_receiver([WEBHOOK_SECRET], on_event=received.append, now=time.time)
    async with AsyncExitStack() as stack:
        mock = await stack.enter_async_context(MockServer(create_mock(folder / "mock.db", speed=20.0)))
        hook = await stack.enter_async_context(HttpServer(receiver, "127.0.0.1", 0))
        port = free_port()
        settings: dict[str, Any] = FAST | {"mock_url": mock.url, "mock_speed": 20, "mock_recovery": "lookup"}
        settings |= {"data_dir": folder, "port": port, "database_url": url, "max_in_flight": CAP, "lease": 3}
        settings |= {"secret_key": "k" * 43, "webhook_secret": WEBHOOK_SECRET}
        settings |= {"webhook_url": f"http://127.0.0.1:{hook.port}/hook", "keep_videos": KEPT, "submit_timeout": 10}
        environment = {name.upper(): str(value) for name, value in settings.items()}
        await stack.enter_async_context(process("api", -OFF, folder, environment))
        await stack.enter_async_context(process("worker", OFF, folder, environment))
        await stack.enter_async_context(process("worker", -OFF, folder, environment))
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10))
        await eventually(lambda: answers(api), bool, 60)
        yield api, received


async def answers(api: httpx.AsyncClient) -> bool:
    try:
        return (await api.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_ten_minutes_either_way_change_nothing(tmp_path: Path, postgres_place: Place) -> None:
    db = postgres_place.open()
    async with open_stage(tmp_path, postgres_place.url) as (api, received):
        begun = time.time()
        for prompt in PROMPTS:
            response = await api.post("/api/generations", json={"prompt": prompt, "parameters": {"duration": 1}})
            assert response.status_code == 202, response.text

        async def told() -> set[str]:
            return {json.loads(each.body)["jobId"] for each in received if each.valid}

        await eventually(told, lambda seen: len(seen) == len(PROMPTS), 90)
        assert all(each.valid for each in received), [each.problem for each in received]
        ended = time.time()
        await _require_true_times(db, begun, ended)
        await _require_playable(api, [json.loads(each.body) for each in received])
    assert await check(db, Caps({"provider:mock": CAP})) == []


async def _require_true_times(db: Database, begun: float, ended: float) -> None:
    """Rows and ids show the database's time, whichever process wrote them; nothing expired early or late."""

    def within(ms: int) -> bool:
        return begun - 5 <= ms / 1000 <= ended + 5

    rows = await db.read(lambda tx: tx.all("SELECT * FROM generation"))
    calls = await db.read(lambda tx: tx.all("SELECT * FROM submission"))
    tried = await db.read(lambda tx: tx.all("SELECT at FROM webhook_attempt"))
    ids = [row["id"] for row in rows] + [call["token"] for call in calls]
    assert all(within(int(each.partition("_")[2][:12], 16)) for each in ids)
    assert {row["status"] for row in rows} == {"completed"}
    for name in ("created_at", "started_at", "accepted_at", "generated_at", "finished_at"):
        assert all(within(row[name]) for row in rows), name
    assert all(within(call["intended_at"]) for call in calls)
    assert all(within(row["at"]) for row in tried)
    assert {row["expires_at"] - row["finished_at"] for row in rows} == {KEPT * 1000}


async def _require_playable(api: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
    """A link that one host signed is good at another, and ends when the video does."""
    for event in events:
        link = event["result"]["videoUrl"]
        assert (await api.get(link)).status_code == 200
