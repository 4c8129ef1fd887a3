"""The lines of one generation become visible in the order of their ids: a cursor over them loses nothing."""

from __future__ import annotations

import asyncio

import pytest

from pipeline import generations, timeline
from pipeline.db import Database, Row
from pipeline.schemas import GenerationCreate
from tests.pipeline.chains import MOCK_CHAIN
from tests.pipeline.engines import Place, transaction

pytestmark = pytest.mark.anyio

LINES = "SELECT event FROM timeline WHERE generation_id = :id ORDER BY id"


async def made(db: Database, name: str = "gen_1") -> Row:
    request = GenerationCreate(prompt="a fox")
    words = {"tenant": "default", "request": request, "chain": MOCK_CHAIN, "idempotency_key": None}
    row, _ = await db.write(lambda tx: generations.create(tx, generation_id=name, **words))
    return row


async def events(db: Database, row: Row) -> list[str]:
    return [line["event"] for line in await db.read(lambda tx: tx.all(LINES, {"id": row["id"]}))]


async def test_a_line_has_its_place_only_once_those_before_it_are_committed(place: Place):
    here, there = place.open(), place.open()
    row = await made(here)
    with transaction(here) as tx:
        timeline.note(tx, row, "first")
        later = asyncio.create_task(there.write(lambda tx: timeline.note(tx, row, "third")))
        await asyncio.wait({later}, timeout=0.2)
        assert not later.done()
        timeline.note(tx, row, "second")
    await later
    assert await events(here, row) == ["queued", "first", "second", "third"]


async def test_lines_of_another_generation_do_not_wait(postgres_place: Place):
    here, there = postgres_place.open(), postgres_place.open()
    one, other = await made(here), await made(here, "gen_2")
    with transaction(here) as tx:
        timeline.note(tx, one, "first")
        await asyncio.wait_for(there.write(lambda tx: timeline.note(tx, other, "first")), 1)
    assert await events(here, other) == ["queued", "first"]
