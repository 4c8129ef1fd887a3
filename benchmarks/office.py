"""The whole of our delivery in a process: database, worker, sender, attempt record."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.senders import BODY, SECRET
from pipeline.app import Plant, make_worker, open_plant
from pipeline.config import Settings
from pipeline.db import Tx
from pipeline.ids import new_id
from pipeline.outbox.addressing import address
from pipeline.worker import run_until


@dataclass
class Office:
    """Endpoints, one per URL, to which events are sent."""

    plant: Plant
    endpoints: list[str]

    async def post(self, count: int, first: int = 0) -> tuple[list[str], int]:
        """Commit so many events with a delivery each; their ids, and when the commit was done (monotonic, ns)."""

        def unit(tx: Tx) -> list[str]:
            return [self._one(tx, self.endpoints[(first + n) % len(self.endpoints)]) for n in range(count)]

        events = await self.plant.db.write(unit)
        done = time.monotonic_ns()
        self.plant.doorbell.ring()
        return events, done

    def _one(self, tx: Tx, endpoint: str) -> str:
        event = new_id("evt", tx.now, os.urandom)
        row = {"id": event, "tenant_id": "bench", "generation_id": event, "type": "generation.completed"}
        more = {"run": 1, "sequence": 1, "terminal": 0, "body": BODY.decode(), "created_at": tx.now}
        tx.insert("webhook_event", row | more)
        place = {"id": endpoint, "url": None, "secret_ref": "settings"}
        address(tx, tenant="bench", event_id=event, place=place, delay=0.0, random=os.urandom)
        return event

    async def delivered(self) -> int:
        sql = "SELECT count(*) FROM webhook_attempt WHERE status = 200"
        return int(await self.plant.db.read(lambda tx: tx.value(sql)))

    async def until_delivered(self, count: int, seconds: float = 120.0) -> None:
        async with asyncio.timeout(seconds):
            while await self.delivered() < count:  # noqa: ASYNC110 # the rows are written by the worker
                await asyncio.sleep(0.05)


@asynccontextmanager
async def office(folder: Path, urls: list[str], **settings: Any) -> AsyncIterator[Office]:
    """Everything started, with an endpoint for each URL and a worker that sends."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "provider": "mock",
        "allowed_networks": "127.0.0.0/8",
        "webhook_secret": SECRET,
        "webhook_url": None,
    }
    values |= {"data_dir": folder, "log_level": "warning"} | settings
    async with open_plant(Settings(_env_file=None, **values)) as plant:
        endpoints = [f"ep_{number}" for number in range(len(urls))]

        def unit(tx: Tx) -> None:
            for name, url in zip(endpoints, urls, strict=True):
                row = {"id": name, "tenant_id": "bench", "url": url, "events": "[]", "secret_ref": "settings"}
                tx.insert("webhook_endpoint", row | {"created_at": tx.now})

        await plant.db.write(unit)
        stop = asyncio.Event()
        worker = asyncio.create_task(run_until(make_worker(plant), stop))
        try:
            yield Office(plant, endpoints)
        finally:
            stop.set()
            await worker
