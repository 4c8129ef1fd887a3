"""The stage: API and workers as real processes, the mock and a receiver, and a load that never pauses."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from pipeline.db import Database, DatabaseError, Tx
from pipeline.drill.crew import Member, all_up
from pipeline.drill.environment import environment
from pipeline.drill.evidence import Evidence, read_charge, read_fences, read_logs, read_rows
from pipeline.drill.history import Caps, check
from pipeline.drill.plan import Order, Plan
from pipeline.drill.run import PROGRAM
from pipeline.drill.surroundings import Surroundings, open_surroundings
from tests.faults.proxy import Proxy, open_proxy
from tests.pipeline.engines import PostgresServer

AGAIN_SECONDS = 0.2
LATER = frozenset({409, 429, 500, 502, 503, 504})
SAID = frozenset({409, 503})
"""What the API may say meanwhile: come back later, or (to a repeat) that the first request is still at it."""
END_SECONDS = 60.0


@dataclass
class Stage:
    """What a fault can reach.

    Attributes:
        db: this process's own way to the database, which is never hit.
        url: where the API is.
        folder: where the processes' files and logs are, and on SQLite the database.
        unexpected: answers of the API that it should not give, by status.
    """

    plan: Plan
    db: Database
    url: str
    folder: Path
    crew: list[Member]
    around: Surroundings
    server: PostgresServer | None
    proxy: Proxy | None
    name: str
    taken: dict[str, Order] = field(default_factory=dict)
    unexpected: dict[int, int] = field(default_factory=dict)
    asked: int = 0

    @property
    def pids(self) -> list[int]:
        return [member.pid for member in self.crew if member.pid is not None]

    async def offer(self, rate: float, stop: asyncio.Event, most: int) -> None:
        """So many orders a second until told to stop, and none while `most` of them are open; each is asked for again
        until it is answered."""
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False) as api,
            asyncio.TaskGroup() as group,
        ):
            began = time.monotonic()
            while not stop.is_set():
                if self.asked - len(self.around.inbox.told) < most:
                    group.create_task(self._ask(api, self.asked))
                    self.asked += 1
                due = max(began + self.asked / rate, time.monotonic() + 0.5 / rate)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), due - time.monotonic())

    async def _ask(self, api: httpx.AsyncClient, number: int) -> None:
        order = Order(number, f"fault {number}", f"user_{number % 5}", 5, f"fault-{number}")
        body = {"prompt": order.prompt, "parameters": {"duration": 1}, "userId": order.user}
        while True:
            try:
                answer = await api.post("/api/generations", json=body, headers={"Idempotency-Key": order.key})
            except httpx.TransportError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status_code in {200, 202}:
                self.taken[answer.json()["id"]] = order
                return
            assert answer.status_code in LATER, answer.text
            if answer.status_code not in SAID:
                self.unexpected[answer.status_code] = self.unexpected.get(answer.status_code, 0) + 1
            await asyncio.sleep(AGAIN_SECONDS)

    async def ended(self) -> int | None:
        """How many orders have ended; None while nobody can say."""
        try:
            return int(await self.db.read(lambda tx: tx.value("SELECT count(finished_at) FROM generation")))
        except DatabaseError:
            return None

    async def ends(self) -> list[tuple[int, int]]:
        """Of each completed generation when it was asked for and when it ended, in milliseconds."""

        def query(tx: Tx) -> list[tuple[int, int]]:
            rows = tx.all("SELECT created_at, finished_at FROM generation WHERE status = 'completed'")
            return [(row["created_at"], row["finished_at"]) for row in rows]

        return await self.db.read(query)

    async def all_told(self, seconds: float = END_SECONDS) -> None:
        """Wait, for a while, until everything has ended and the receiver has heard of it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if await self.ended() == self.asked and set(self.taken) <= set(self.around.inbox.told):
                return
            await asyncio.sleep(0.2)

    async def evidence(self) -> Evidence:
        """What both sides say, once all is over."""
        generations, submissions, endings = await self.db.read(read_rows)
        return Evidence(
            plan=replace(self.plan, generations=self.asked),
            taken=self.taken,
            generations=generations,
            submissions=submissions,
            endings=endings,
            charges=[read_charge(entry) for entry in await self.around.account()],
            told=self.around.inbox.told,
            unverified=self.around.inbox.bad,
            logs=read_logs(sorted(self.folder.glob("*.log"))),
            fences=await self.db.read(read_fences),
            ended_alone=[f"{member.name}: code {code}" for member in self.crew for code in member.ended_alone],
            history=await check(self.db, Caps(lanes={"provider:mock": self.plan.in_flight})),
            sqlite=not self.db.postgres,
        )


@asynccontextmanager
async def open_stage(
    folder: Path, disk: Path, plan: Plan, url: str, *, server: PostgresServer | None = None
) -> AsyncIterator[Stage]:
    """Everything started. `disk` takes what the processes write, `folder` what is ours; `url` is a migrated database.
    Before PostgreSQL stands a proxy."""
    async with AsyncExitStack() as stack:
        db = Database(url)
        stack.callback(db.close)
        proxy = None
        theirs = url
        if server is not None:
            proxy = await stack.enter_async_context(open_proxy(server.port, random.Random(plan.seed)))
            theirs = url.replace(f":{server.port}/", f":{proxy.port}/")
        around = await stack.enter_async_context(open_surroundings(folder, plan, os.urandom))
        port = _free_port()
        variables = environment(
            plan,
            os.environ,
            database=theirs,
            folder=disk,
            port=port,
            mock=around.mock,
            hook=around.hook,
            secret=around.secret,
        )
        names = ["api", *(f"worker-{number}" for number in range(1, plan.workers + 1))]
        crew = [Member(name, (*PROGRAM, name.partition("-")[0]), variables, disk) for name in names]
        keepers = [asyncio.create_task(member.keep()) for member in crew]
        try:
            await all_up(crew, 60)
            name = url.rpartition("/")[2]
            yield Stage(plan, db, f"http://127.0.0.1:{port}", disk, crew, around, server, proxy, name)
        finally:
            await asyncio.gather(*(member.end() for member in crew))
            await asyncio.gather(*keepers)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
