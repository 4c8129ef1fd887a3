"""A house whose work can go to either of two scripted providers, `mock` and `spare`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipeline.server import HttpServer
from providers.mock.adapter import Mock
from providers.wire import Clients
from tests.house import House
from tests.pipeline.provider_script import Hand, Script, by_hand

CHAIN = {"provider": "mock", "fallback": [{"provider": "spare"}]}


class Spare(Mock):
    """The same dialect under another name."""

    name = "spare"


@asynccontextmanager
async def spare_of(house: House, *, speed: float = 100.0) -> AsyncIterator[Script]:
    """A second provider in a house."""
    script, outbound = Script(), house.plant.outbound
    async with HttpServer(script.app(), "127.0.0.1", 0) as server:
        clients = Clients(outbound.submit, outbound.calls, outbound.fetch)
        house.plant.providers.ready["spare"] = Spare(clients, url=f"http://127.0.0.1:{server.port}", speed=speed)
        yield script


@asynccontextmanager
async def pair(folder: Path, **settings: Any) -> AsyncIterator[tuple[Hand, Script]]:
    """Turns by hand; the first provider is `hand.script`, the second the other one."""
    async with by_hand(folder, **settings) as hand, spare_of(hand.house) as spare:
        yield hand, spare
