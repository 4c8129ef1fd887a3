"""A call that was unclear and is answered after all keeps its place, before any turn has gone on with it. Found by the
machine of `test_life_machine`: for that moment it was counted neither as unclear nor as in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import admission
from pipeline.admission.bounds import unclear_of_users
from tests.pipeline.engines import Place
from tests.pipeline.life import CAP, LANE, World


@pytest.fixture
def world(place: Place, tmp_path: Path) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    world = World(place, tmp_path, loop)
    world.start("callback", "fail")
    yield world
    for worker in {each.claim.worker for each in world.playing}:
        world.kill(worker)
    loop.close()


def test_a_late_answer_keeps_its_place(world: World) -> None:
    for _ in range(3):
        world.ask("ann", 5)
    world.claim("zombie", 1)
    (zombie,) = world.playing
    world.time.passes(40.0)
    world.claim("heir", 2)
    heirs = [each for each in world.playing if each is not zombie]
    (unclear,) = [each for each in heirs if each.claim.id == zombie.claim.id]
    world.record(unclear)
    world.reply(world.provider.flights[0], "well", take=True)
    world.record(zombie)
    assert world.db.read_now(lambda tx: admission.in_flight(tx, LANE)) == CAP
    counted = world.db.read_now(lambda tx: unclear_of_users(tx, world.bounds))
    assert counted == {("default", "ann"): 1}
    world.claim("next", 3)
    assert world.db.read_now(lambda tx: tx.value("SELECT count(*) FROM job WHERE status = 'waiting'")) == 1
