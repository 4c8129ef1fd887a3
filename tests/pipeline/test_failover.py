"""The server goes, and we stay: restarts, ended connections and failover to a standby need no restart of ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest

from pipeline.db import Database, DatabaseUnavailable, Tx
from tests.house import House, eventually, open_house
from tests.pipeline.engines import Place, PostgresServer
from tests.pipeline.standby import Pair, pair
from tests.pipeline.test_connections import SECRETS, workers
from tests.pipeline.test_writer import names, put

pytestmark = pytest.mark.anyio

WAYS = ["crash", "switch"] if os.environ.get("LONG") else ["crash"]
"""A switch, where the primary lives on, takes as long; its heart, a connection turned read-only, is tried alone."""
TERMINAL = {"completed", "failed", "cancelled"}


async def order(house: House, number: int) -> str:
    """POST until it is answered, always with the same key, as `dailies submit` does."""
    body = {"prompt": f"fox {number}", "parameters": {"duration": 1}}
    while True:
        response = await house.api.post("/api/generations", json=body, headers={"Idempotency-Key": f"order-{number}"})
        if response.status_code in {200, 202}:
            found: str = response.json()["id"]
            return found
        assert response.status_code == 503, response.text
        await asyncio.sleep(0.1)


async def orders_survive(house: House, break_it: Callable[[], object]) -> float:
    """Twenty generations, the server goes in the middle; seconds until the first was made after that."""
    ids = [await order(house, number) for number in range(10)]

    async def submitted() -> int:
        return len(await house.ledger())

    await eventually(submitted, lambda count: count >= 3, 10)
    await asyncio.to_thread(break_it)
    broken = monotonic()
    ids += await asyncio.gather(*(order(house, number) for number in range(10, 20)))
    back = monotonic() - broken
    assert len(set(ids)) == 20

    async def statuses() -> list[str]:
        found = [await house.api.get(f"/api/generations/{each}") for each in ids]
        return [answer.json()["status"] if answer.status_code == 200 else "?" for answer in found]

    ended = await eventually(statuses, TERMINAL.issuperset, 30)
    assert ended == ["completed"] * 20
    assert len(await house.ledger()) == 20, "nothing was paid twice, nothing was lost"
    hooks = await house.webhooks(20, 20)
    assert len({hook.headers["webhook-id"] for hook in hooks}) == 20
    return back


@pytest.mark.parametrize("way", WAYS)
async def test_work_goes_on_at_the_standby_that_was_promoted(tmp_path: Path, way: str) -> None:
    """With synchronous replication no commit is forgotten that anybody was told of."""
    with pair() as servers:
        await _fail_over(tmp_path, servers, servers.fail_over if way == "crash" else servers.switch_over)


async def _fail_over(folder: Path, servers: Pair, move: Callable[[], None]) -> None:
    values: dict[str, Any] = SECRETS | {"database_url": servers.url(), "lease": 2.0, "submit_timeout": 4.0}
    quick = {"lease": 2.0, "submit_timeout": 4.0}
    async with open_house(folder / "api", work=False, speed=15, **values) as house, workers(house, folder, 2, **quick):
        back = await orders_survive(house, move)
        print(f"orders were taken again {back:.2f} s after the standby was promoted")
        where = await house.plant.db.write(lambda tx: tx.value("SHOW port"))
        assert int(where) == servers.standby.port


async def test_work_goes_on_when_every_connection_is_ended_and_the_server_restarts(
    postgres_place: Place, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    def break_it() -> None:
        with psycopg.connect(postgres_place.url, autocommit=True) as admin:
            for _ in range(3):
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        postgres_server.restart()

    values: dict[str, Any] = SECRETS | {"database_url": postgres_place.url, "lease": 2.0, "submit_timeout": 4.0}
    async with open_house(tmp_path, speed=15, **values) as house:
        await orders_survive(house, break_it)


async def test_a_connection_that_has_become_read_only_is_thrown_away(
    postgres_place: Place, postgres_server: PostgresServer
) -> None:
    """As after a failover of a server whose old connections stay open."""
    db = postgres_place.open()

    def pid(tx: Tx) -> int:
        found: int = tx.value("SELECT pg_backend_pid()")
        return found

    before = {await db.write(pid), await db.read(pid)}
    close_for_writing(postgres_server, "on")
    try:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="read-only"):
                await db.write(put("refused"))
    finally:
        close_for_writing(postgres_server, "off")
    await eventually(lambda: writes(db), bool, 5)
    assert before.isdisjoint({await db.write(pid), await db.read(pid)})
    assert await names(db) == ["taken"]


async def writes(db: Database) -> bool:
    try:
        await db.write(put("taken"))
    except DatabaseUnavailable:
        return False
    return True


def close_for_writing(server: PostgresServer, word: str) -> None:
    """For open connections, too; returns once the server has heard it."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {word}")
        admin.execute("SELECT pg_reload_conf()")
    deadline = monotonic() + 5
    while True:
        with psycopg.connect(server.url("postgres"), autocommit=True) as asking:
            if asking.execute("SHOW default_transaction_read_only").fetchone() == (word,):
                return
        assert monotonic() < deadline
