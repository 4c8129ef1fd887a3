"""What a generation costs the database: commits, bytes of log, rows, dead rows, counted by the database itself.

Run it: `make cost`. Real processes' parts (API, worker, mock provider, receiver) take generations from the order to the
delivered webhook; the figures are those of a run with orders less those of a run without.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psycopg

from tests.house import House, eventually, open_house
from tests.pipeline.engines import Place, SqlitePlaces, start_postgres

SECRETS = {"secret_key": "0123456789abcdef0123456789abcdef", "webhook_secret": "whsec_" + "QUFB" * 8}
SLOW = 3
"""Seconds that a generation of many polls takes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts; of SQLite those alone that it can tell. `log` is bytes of WAL; `dead` rows are old versions that a vacuum
    has to find, `pruned` those that the next visitor of their page takes away by itself (HOT)."""

    commits: float = 0
    log: float = 0
    inserted: float = 0
    updated: float = 0
    pruned: float = 0
    deleted: float = 0
    polls: float = 0

    @property
    def dead(self) -> float:
        return self.updated + self.deleted - self.pruned

    def less(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, each.name) - getattr(other, each.name) for each in fields(self)))

    def over(self, count: float) -> Cost:
        return Cost(*(getattr(self, each.name) / count for each in fields(self)))


_ROWS = """
SELECT coalesce(sum(n_tup_ins), 0), coalesce(sum(n_tup_upd), 0), coalesce(sum(n_tup_hot_upd), 0),
  coalesce(sum(n_tup_del), 0) FROM pg_stat_user_tables"""


def postgres_now(url: str) -> tuple[int, list[int]]:
    """Where the log ends, and rows so far; exact once those who wrote have closed their connections."""
    with psycopg.connect(url, autocommit=True) as connection:
        lsn = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        rows = connection.execute(_ROWS).fetchone()
    assert lsn is not None
    assert rows is not None
    return int(lsn[0]), [int(count) for count in rows]


async def run(place: Place, folder: Path, orders: int, *, slow: bool = False, at_once: bool = False) -> Cost:
    """The cost of a house that takes so many orders, from its opening to its end."""
    settings = SECRETS | {"database_url": place.url, "slots_submit": 64, "slots_store": 64, "max_in_flight": 500}
    if place.url.startswith("sqlite"):
        return await _run_sqlite(place, folder, orders, settings, slow, at_once)
    before, rows_before = postgres_now(place.url)
    async with open_house(folder, **settings) as house:
        polls = await serve(house, orders, slow, at_once)
        database = house.plant.db
    after, rows = postgres_now(place.url)
    counts = [new - old for new, old in zip(rows, rows_before, strict=True)]
    return Cost(database.commits, after - before, *counts, polls=polls)


async def _run_sqlite(
    place: Place, folder: Path, orders: int, settings: dict[str, Any], slow: bool, at_once: bool
) -> Cost:
    """A reader that stays keeps the log from being begun anew, so that it holds every page that was written."""
    file = Path(place.url.removeprefix("sqlite:///"))
    async with open_house(folder, **settings) as house:
        reader = sqlite3.connect(file, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM job").fetchone()
        before = Path(f"{file}-wal").stat().st_size
        polls = await serve(house, orders, slow, at_once)
        log = Path(f"{file}-wal").stat().st_size - before
        reader.close()
        database = house.plant.db
    return Cost(database.commits, log, polls=polls)


async def serve(house: House, orders: int, slow: bool, at_once: bool) -> int:
    """Order, and wait until every webhook has arrived; returns how often the provider was asked."""
    prompt = f"[[slow:{SLOW}]]" if slow else ""
    if at_once:
        for start in range(0, orders, 100):
            wishes = [{"prompt": f"fox {number} {prompt}"} for number in range(start, min(start + 100, orders))]
            answer = await house.api.post("/api/generations", json=wishes)
            assert answer.status_code == 202, answer.text
    for number in range(0 if at_once else orders):
        await house.submit(f"fox {number} {prompt}")
        await house.webhooks(number + 1)
    await house.webhooks(orders, 120)

    async def open_jobs() -> int:
        return int(await house.plant.db.read(lambda tx: tx.value("SELECT count(*) FROM job WHERE finished_at IS NULL")))

    await eventually(open_jobs, lambda count: count == 0, 10)
    return int(await house.plant.db.read(lambda tx: tx.value("SELECT coalesce(sum(polls), 0) FROM job")))


async def measure(place: Place, folder: Path, orders: int, *, at_once: bool) -> Cost:
    """The cost of one generation among so many."""
    idle = await run(place, folder / "idle", 0)
    busy = await run(place, folder / "busy", orders, at_once=at_once)
    return busy.less(idle).over(orders)


async def measure_poll(place: Place, folder: Path, orders: int) -> Cost:
    """The cost of one poll that finds nothing new but its progress."""
    short = await run(place, folder / "short", orders, at_once=True)
    both = await run(place, folder / "long", orders, slow=True, at_once=True)
    # The jobs of the first run are still there, and so are their polls.
    long = both.less(Cost(polls=short.polls))
    more = long.less(short)
    return more.over(more.polls)


HEAD = "| {:<33} | {:>7} | {:>9} | {:>13} | {:>12} | {:>9} | {:>6} |"
ROW = "| {:<33} | {:>7.1f} | {:>9,.0f} | {:>13} | {:>12} | {:>9} | {:>6.1f} |"


def line(name: str, cost: Cost, *, postgres: bool) -> str:
    """One line of the table."""
    rows = [f"{count:.1f}" for count in (cost.inserted, cost.updated, cost.dead)] if postgres else ["-"] * 3
    return ROW.format(name, cost.commits, cost.log, *rows, cost.polls)


async def table(place: Place, folder: Path, name: str, orders: int) -> None:
    postgres = not place.url.startswith("sqlite")
    for words, at_once in (("one after the other", False), (f"{orders} at once", True)):
        cost = await measure(place, folder / words, orders, at_once=at_once)
        print(line(f"{name}, {words}", cost, postgres=postgres))
    poll = await measure_poll(place, folder / "polls", orders)
    print(line(f"{name}, a poll", poll, postgres=postgres))


def main(orders: int = 100) -> None:
    """Print the table of both engines."""
    print(HEAD.format("", "commits", "log bytes", "rows inserted", "rows updated", "dead rows", "polls"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sqlite").mkdir()
        with SqlitePlaces(Path(folder) / "sqlite").new() as place:
            asyncio.run(table(place, Path(folder) / "s", "SQLite", orders))
        server = start_postgres()
        try:
            with server.new() as place:
                asyncio.run(table(place, Path(folder) / "p", "PostgreSQL", orders))
        finally:
            server.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
