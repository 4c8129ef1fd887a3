"""What is never hit: the mock provider with its account, and the receiver of the webhooks. Both live in the process
of the drill."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipeline.drill.plan import Plan
from pipeline.server import HttpServer
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from webhooks.events import TERMINAL
from webhooks.receiver import Received, create_receiver
from webhooks.signing import new_secret

HOST = "127.0.0.1"
ALL = 999_999
"""The most entries that the mock's account gives at once."""


@dataclass(slots=True)
class Inbox:
    """What the receiver got: for each generation how often every terminal event came, by `webhook-id`; and what did
    not verify, in words."""

    told: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    bad: list[str] = field(default_factory=list)

    def take(self, received: Received) -> None:
        """Called with every webhook that came."""
        if not received.valid:
            self.bad.append(received.problem or "it does not verify")
            return
        body = json.loads(received.body)
        if body["type"] in TERMINAL:
            self.told[body["data"]["jobId"]][received.headers["webhook-id"]] += 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the mock and the receiver are, what came, and the secret that the receiver verifies with."""

    mock: str
    hook: str
    inbox: Inbox
    secret: str

    async def account(self) -> list[Mapping[str, Any]]:
        """Every order that the mock took and charged."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.get(f"{self.mock}/ledger", params={"limit": ALL})
        entries: list[Mapping[str, Any]] = answer.raise_for_status().json()["entries"]
        return entries


@asynccontextmanager
async def open_surroundings(folder: Path, plan: Plan, randbytes: Any) -> AsyncIterator[Surroundings]:
    """Start both on free ports; leaving it ends them."""
    inbox, secret = Inbox(), new_secret(randbytes)
    receiver = create_receiver([secret], on_event=inbox.take, now=time.time)
    async with (
        httpx.AsyncClient(trust_env=False) as bell,
        MockServer(create_mock(folder / "mock.db", speed=plan.speed, client=bell)) as mock,
        HttpServer(receiver, HOST, 0) as hook,
    ):
        yield Surroundings(mock.url, f"http://{HOST}:{hook.port}/drill", inbox, secret)
