"""One drill from its beginning to its verdict: real processes, a load, blows, then both sides' accounts."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.db import Database, Tx
from pipeline.drill.crew import DrillError, Member, all_up
from pipeline.drill.environment import environment
from pipeline.drill.evidence import Evidence, read_charge, read_fences, read_logs, read_rows, read_zombies, unplayable
from pipeline.drill.fate import Blows, Fate
from pipeline.drill.history import Caps, check
from pipeline.drill.load import offer
from pipeline.drill.plan import Order, Plan, blows, orders
from pipeline.drill.surroundings import Surroundings, open_surroundings
from pipeline.drill.table import Result
from pipeline.drill.verdict import verdict

PROGRAM = (sys.executable, "-m", "pipeline")
FILES = Path("data", "files")
LOOK_SECONDS = 0.25
START_SECONDS = 60.0
TELL_SECONDS = 30.0
"""So long the last webhooks are waited for, once all work has ended."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a drill takes place.

    Args:
        name: what its row in the table is called.
        database: the URL of an empty, migrated database.
        folder: an empty folder for files and logs.
        program: what is run as API and worker, before the command's name.
        extra: variables that the processes get besides.
        tell: told of what happens, in words.
    """

    name: str
    database: str
    folder: Path
    program: Sequence[str] = PROGRAM
    extra: Mapping[str, str] | None = None
    tell: Callable[[str], None] = lambda _: None


async def run_drill(plan: Plan, stage: Stage) -> Result:
    """Run it to its end or to the end of its patience, and judge what is there then. Raises DrillError where it could
    not be held at all."""
    started = time.monotonic()
    taken: dict[str, Order] = {}
    db = Database(stage.database)
    try:
        async with open_surroundings(stage.folder, plan, os.urandom) as around:
            async with _crew(plan, stage, around) as (crew, url):
                done = await _hold(plan, stage, db, around, crew, url, taken)
            await _account_settled(around)
            evidence = await _collect(plan, stage, db, around, crew, taken, done)
    finally:
        db.close()
    evidence.seconds = time.monotonic() - started
    return Result(stage.name, evidence, verdict(evidence))


@asynccontextmanager
async def _crew(plan: Plan, stage: Stage, around: Surroundings) -> AsyncIterator[tuple[list[Member], str]]:
    """The API and the workers, kept until the end of the block. Raises DrillError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = environment(
        plan,
        os.environ,
        database=stage.database,
        folder=stage.folder,
        port=port,
        mock=around.mock,
        hook=around.hook,
        secret=around.secret,
    )
    variables |= stage.extra or {}
    names = ["api", *(f"worker-{number}" for number in range(1, plan.workers + 1))]
    crew = [Member(name, (*stage.program, name.partition("-")[0]), variables, stage.folder) for name in names]
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(_flat_group())
        keepers = [group.create_task(member.keep()) for member in crew]
        try:
            await all_up(crew, START_SECONDS)
            yield crew, f"http://127.0.0.1:{port}"
        finally:
            await asyncio.gather(*(member.end() for member in crew))
            await asyncio.wait(keepers)


@asynccontextmanager
async def _flat_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises what went wrong as it is, and not as a group of one."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from None


async def _hold(
    plan: Plan,
    stage: Stage,
    db: Database,
    around: Surroundings,
    crew: Sequence[Member],
    url: str,
    taken: dict[str, Order],
) -> Blows:
    """Load, blows and progress at once; returns when all work has ended or patience has."""
    fate = Fate(crew, db, stage.tell)
    over = asyncio.Event()
    try:
        async with asyncio.timeout(plan.patience), _flat_group() as group:
            load = group.create_task(offer(orders(plan), url, taken))
            group.create_task(fate.strike(blows(plan), over.is_set))
            await _ended(plan, stage, db, load)
            over.set()
    except TimeoutError:
        stage.tell(f"not over after {plan.patience:g} s: what is there now is judged")
        return fate.done
    await _heard(db, around)
    return fate.done


async def _ended(plan: Plan, stage: Stage, db: Database, load: asyncio.Task[None]) -> None:
    """Wait until everything was taken and has ended."""
    told = 0.0
    while True:
        total, ended = await db.read(_progress)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            stage.tell(f"{total} taken, {ended} ended, of {plan.generations}")
        if load.done() and total and total == ended:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _progress(tx: Tx) -> tuple[int, int]:
    row = tx.one("SELECT count(*) AS total, count(finished_at) AS ended FROM generation")
    return (0, 0) if row is None else (int(row["total"]), int(row["ended"]))


async def _heard(db: Database, around: Surroundings) -> None:
    """Wait until the receiver has heard of every end, for a while."""
    deadline = time.monotonic() + TELL_SECONDS
    while time.monotonic() < deadline:
        ended = await db.read(lambda tx: tx.all("SELECT id FROM generation WHERE finished_at IS NOT NULL"))
        if all(row["id"] in around.inbox.told for row in ended):
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _account_settled(around: Surroundings) -> None:
    """What the mock took and nobody waits for ends, too: then its account says what is charged in the end."""
    charges = [read_charge(entry) for entry in await around.account()]
    last = max((charge.until for charge in charges if charge.until is not None), default=0.0)
    await asyncio.sleep(min(max(0.0, last - time.time()), 10.0))


async def _collect(
    plan: Plan,
    stage: Stage,
    db: Database,
    around: Surroundings,
    crew: Sequence[Member],
    taken: Mapping[str, Order],
    done: Blows,
) -> Evidence:
    generations, submissions, endings = await db.read(read_rows)
    return Evidence(
        plan=plan,
        taken=taken,
        generations=generations,
        submissions=submissions,
        endings=endings,
        charges=[read_charge(entry) for entry in await around.account()],
        told=around.inbox.told,
        unverified=around.inbox.bad,
        logs=read_logs(sorted(stage.folder.glob("*.log"))),
        blows=done,
        zombies=read_zombies(stage.folder),
        fences=await db.read(read_fences),
        unplayable=await asyncio.to_thread(unplayable, stage.folder / FILES, generations),
        ended_alone=[f"{member.name}: code {code}" for member in crew for code in member.ended_alone],
        history=await check(db, Caps(lanes={"provider:mock": plan.in_flight})),
        sqlite=not db.postgres,
    )


__all__ = ["PROGRAM", "DrillError", "Stage", "run_drill"]
