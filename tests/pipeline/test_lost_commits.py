"""The answer to a COMMIT is lost, at every kind of write of a generation's life: nothing is paid twice, nothing is
lost, and each ends in one event. The server may have heard the COMMIT or not; nobody can tell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from pipeline.app import make_worker
from pipeline.worker import run_until
from tests.house import House, open_house
from tests.pipeline.cutting_proxy import Cut, CuttingProxy
from tests.pipeline.engines import Place, PostgresServer
from tests.pipeline.test_connections import SECRETS

pytestmark = pytest.mark.anyio

CUTS = [Cut.AFTER, Cut.BEFORE] if os.environ.get("LONG") else [Cut.AFTER]
"""What the server never heard of is, but for the error, what was never begun."""
WRITES = {
    "claim": b"UPDATE job SET status = 'processing'",
    "intent": b"INSERT INTO submission",
    "answer of a paid call": b"UPDATE submission SET operation_id",
    "its cost": b"UPDATE submission SET outcome = 'succeeded'",
    "end": b"INSERT INTO webhook_event",
}


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(postgres_server.port)
    yield proxy
    proxy.close()


@asynccontextmanager
async def house_behind(
    proxy: CuttingProxy, place: Place, server: PostgresServer, folder: Path, **more: Any
) -> AsyncIterator[House]:
    """A house that reaches the database through the proxy, and says every statement in full."""
    url = place.url.replace(f":{server.port}/", f":{proxy.port}/")
    values: dict[str, Any] = {"database_url": url, "lease": 1.0, "submit_timeout": 2.0}
    async with open_house(folder, work=False, **SECRETS, **values, **more) as house:
        engine = house.plant.db.engine
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "prepare_threshold", None))
        engine.dispose()
        yield house


@asynccontextmanager
async def working(house: House) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_until(make_worker(house.plant), stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
async def test_no_commit_whose_answer_is_lost_pays_twice_or_loses_anything(
    proxy: CuttingProxy, postgres_place: Place, postgres_server: PostgresServer, tmp_path: Path, cut: Cut
) -> None:
    async with house_behind(proxy, postgres_place, postgres_server, tmp_path) as house:
        for number, (what, words) in enumerate(WRITES.items(), start=1):
            order = await house.submit(what)
            proxy.cut, proxy.after = cut, words
            async with working(house):
                ended = await house.ended(order["id"], 20)
                await house.webhooks(number)
            assert proxy.cut is Cut.NEVER, f"{what}: nothing was cut"
            assert ended["status"] == "completed", what
            assert len(await house.ledger()) == number, f"{what}: paid twice, or not at all"
        sent = [hook.headers["webhook-id"] for hook in house.received]
        assert len(set(sent)) == len(WRITES)
        rows = await house.plant.db.read(lambda tx: tx.all("SELECT generation_id, outcome, billed FROM submission"))
        paid = [row["generation_id"] for row in rows if row["outcome"] == "succeeded"]
        assert len(paid) == len(set(paid)) == len(WRITES)
        assert {row["outcome"] for row in rows} <= {"succeeded", "rejected"}


async def test_an_intent_whose_commit_was_not_answered_is_never_followed_by_the_call(
    proxy: CuttingProxy, postgres_place: Place, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """At a provider that could not say what it took: had we called it, nobody would know."""
    async with house_behind(proxy, postgres_place, postgres_server, tmp_path, mock_recovery="none") as house:
        proxy.cut, proxy.after = Cut.AFTER, WRITES["intent"]
        order = await house.submit("fox")
        async with working(house):
            ended = await house.ended(order["id"], 20)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "submit_unknown")
        assert await house.ledger() == []


@pytest.mark.parametrize("cut", [Cut.AFTER, Cut.BEFORE], ids=lambda cut: cut.name)
async def test_an_order_whose_commit_was_not_answered_is_repeated_with_its_key(
    proxy: CuttingProxy, postgres_place: Place, postgres_server: PostgresServer, tmp_path: Path, cut: Cut
) -> None:
    async with house_behind(proxy, postgres_place, postgres_server, tmp_path) as house:
        proxy.cut, proxy.after = cut, b"INSERT INTO generation"

        async def post() -> Any:
            return await house.api.post(
                "/api/generations", json={"prompt": "fox"}, headers={"Idempotency-Key": "order-1"}
            )

        first = await post()
        assert (first.status_code, first.json()["code"]) == (503, "commit_unknown")
        assert first.headers["retry-after"]
        second, third = await post(), await post()
        assert second.status_code in {200, 202}
        assert second.json()["id"] == third.json()["id"]
        async with working(house):
            assert (await house.ended(second.json()["id"]))["status"] == "completed"
        assert len(await house.ledger()) == 1
        assert await house.plant.db.read(lambda tx: tx.value("SELECT count(*) FROM generation")) == 1
