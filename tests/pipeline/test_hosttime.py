"""SQLite's time: it follows the host's clock, but never goes back and never stands still, for all processes alike."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import pytest

from pipeline.db import Database
from pipeline.db.hosttime import REFRESH_MS, SLEW, TOLERANCE_MS, HostTime, Reckoning, reckon, this_boot
from tests.pipeline.engines import Place
from tests.pipeline.test_writer import run_script

pytestmark = pytest.mark.anyio

NOON = 1_800_000_000.0
HOUR = 3600.0


@dataclass
class Host:
    """A host's two clocks: both go on together, and the one on the wall can be set."""

    wall: float = NOON
    up: float = 1000.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds

    def open(self, place: Place) -> Database:
        """A process on this host."""
        place.opened.append(Database(place.url, clock=lambda: self.wall, monotonic=lambda: self.up))
        return place.opened[-1]


async def now(db: Database) -> float:
    return (await db.write(lambda tx: tx.now)) / 1000


async def seen(db: Database) -> float:
    return (await db.read(lambda tx: tx.now)) / 1000


async def rows(db: Database) -> list[dict[str, object]]:
    return await db.read(lambda tx: tx.all("SELECT * FROM clock"))


async def test_it_is_the_hosts_time_while_that_goes_on_as_it_should(sqlite_place: Place) -> None:
    host = Host()
    db = host.open(sqlite_place)
    assert await seen(db) == NOON, "before anything was written"
    for _ in range(10):
        assert await now(db) == await seen(db) == host.wall
        host.passes(3.0)
    assert len(await rows(db)) == 1


async def test_nothing_is_written_for_its_sake_while_nothing_changes(sqlite_place: Place) -> None:
    host = Host()
    db = host.open(sqlite_place)
    await now(db)
    changed = db.change_probe()
    other = host.open(sqlite_place)
    assert changed is not None
    for _ in range(5):
        host.passes(1.0)
        host.wall += 0.002  # set right by a hair, as NTP does all the time
        await now(other)
    assert not changed(), "two idle workers would wake each other for ever"


async def test_a_host_that_steps_forward_is_followed_at_once(sqlite_place: Place) -> None:
    host = Host()
    first, second = host.open(sqlite_place), host.open(sqlite_place)
    await now(first)
    host.passes(1.0)
    host.wall += 8 * HOUR
    assert await now(first) == await now(second) == await seen(second) == NOON + 8 * HOUR + 1


async def test_a_host_that_is_set_back_is_waited_for_at_half_the_speed(sqlite_place: Place) -> None:
    host = Host()
    first, second = host.open(sqlite_place), host.open(sqlite_place)
    await now(first)
    host.wall -= HOUR
    assert await now(first) == NOON
    host.passes(10.0)
    assert await now(second) == await seen(first) == NOON + 10 * SLEW, "work that is due in 5 s is due after 10 s"
    host.passes(2 * HOUR - 10)
    assert await seen(second) == await now(second) == NOON + HOUR == host.wall, "the host has caught up"
    host.passes(10.0)
    assert await now(first) == host.wall


async def test_setting_the_clock_right_and_wrong_again_is_no_matter(sqlite_place: Place) -> None:
    host = Host()
    db = host.open(sqlite_place)
    before = await now(db)
    for step in (-HOUR, HOUR, -60.0, 30.0, -HOUR, 2 * HOUR):
        host.wall += step
        host.passes(1.0)
        after = await now(db)
        assert after >= before + SLEW
        before = after
    assert before == host.wall


async def test_after_a_boot_it_goes_on_from_where_it_was_known_to_be(sqlite_place: Place) -> None:
    host = Host(up=50_000.0)
    db = host.open(sqlite_place)
    await now(db)
    host.passes(300.0)
    known = await now(db)
    host.up, host.wall = 20.0, NOON - HOUR
    assert await seen(db) == known, "a reader knows it as well"
    assert await now(db) == known
    host.passes(4.0)
    assert await now(db) == known + 2
    host.up, host.wall = 10.0, NOON + HOUR
    assert await now(db) == NOON + HOUR, "the host's clock was right this time"


def test_no_history_of_steps_and_boots_makes_it_go_back() -> None:
    dice = random.Random(20261124)
    for _ in range(200):
        last: Reckoning | None = None
        told = 0
        up, wall, boot = 1_000_000, int(NOON * 1000), "a"
        for _ in range(100):
            passed = dice.choice((1, 7, 1000, 90_000))
            up, wall = up + passed, wall + passed
            if dice.random() < 0.2:
                wall += dice.choice((-1, 1)) * dice.choice((3, 40, 60, 5000, 3_600_000))
            kept = last
            last = reckon(last, boot, up, wall)
            time_now = last.time(up)
            assert time_now >= told + int(passed * (1 - SLEW)) - 1
            assert time_now >= wall - TOLERANCE_MS, "never behind the host by more than a hair"
            assert last is kept or last.since == up
            told = time_now


def test_it_is_written_down_now_and_then_so_that_a_boot_knows_where_it_was() -> None:
    last = reckon(None, "a", 0, 1_000_000)
    assert reckon(last, "a", REFRESH_MS - 1, 1_000_000 + REFRESH_MS - 1) is last
    assert reckon(last, "a", REFRESH_MS, 1_000_000 + REFRESH_MS).since == REFRESH_MS
    assert reckon(last, "b", 5, 999_000).time(5) == 1_000_000, "another boot, whose monotonic clock has gone further"


def test_a_process_that_is_held_up_between_two_clocks_looks_again() -> None:
    monotonic = iter([1.0, 3.0, 3.0, 3.001])
    host = iter([500.0, 502.0])
    assert HostTime(lambda: next(host), lambda: next(monotonic))._look() == (3001, 502_000)


def test_a_boot_is_told_by_linux() -> None:
    assert this_boot() == this_boot()


WRITING = """
import asyncio, random, sys, time
from pipeline.db import Database

def unit(name):
    def write(tx):
        last = tx.value("SELECT max(paused_until) FROM lane") or 0
        tx.insert("lane", {"name": name, "paused_until": tx.now, "unknown_streak": 0})
        return last, tx.now
    return write

async def main(url, me):
    dice, step, worst = random.Random(me), 0.0, 0
    db = Database(url, clock=lambda: time.time() + step)
    for n in range(150):
        if n % 10 == 0:
            step = dice.choice((0.0, -600.0, 600.0, 0.2, -0.2))
        last, now = await db.write(unit(f"{me}-{n}"))
        worst = min(worst, now - last)
    db.close()
    print(worst)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_whose_clocks_disagree_agree_on_the_time(sqlite_place: Place) -> None:
    """Each sees the commits of the other, none of which comes from the future, or lies before one that came earlier."""
    started = time.monotonic()
    scripts = [run_script(WRITING, sqlite_place.url, f"p{n}") for n in range(2)]
    for script in scripts:
        output, _ = await asyncio.to_thread(script.communicate, timeout=60)
        assert script.returncode == 0, output
        assert output.strip() == "0", "a commit was earlier than the one before it"
    ran = time.monotonic() - started
    times = await sqlite_place.open().read(lambda tx: tx.all("SELECT paused_until AS at FROM lane ORDER BY rowid"))
    found = [row["at"] for row in times]
    assert found == sorted(found)
    assert found[-1] - found[0] < (1300 + ran) * 1000, "steps of other processes are not added up"
