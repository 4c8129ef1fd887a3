"""The crash sweep: a worker process is killed with -9 at every boundary of every turn, and another carries on.

Run it: `make crashes`. A story (a plain generation, one whose submit ends unknown, a cancel, two redrives) is played
once undisturbed for its boundaries: each claim, commit, HTTP exchange and file. Then it is played once for each of
them, on each database and with each means by which a provider tells what became of a call. The whole end state is
compared with the one that belongs to the cell; then the exit code is 1 if any differs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.app import make_worker
from pipeline.media import probe
from pipeline.worker import run_until
from tests.house import FAST, House, open_house
from tests.pipeline.engines import PostgresServer, start_postgres
from tests.zygotes import Zygote, open_zygotes

SPEED = 1000.0
"""A video is ready before the first poll: so all runs of a story pass the same boundaries."""
QUICK = {"lease": 1.5, "submit_timeout": 2.0, "drain_timeout": 2.0, "store_attempts": 3}
SHORT_LEASE = 1.0
"""Of the worker that dies, whose end is waited for."""
CALLBACKS_FOR = 1.0
PARALLEL = 3
TRIES = 3
"""A play in which nobody was killed, or in which a living worker found its lease ended, is not the story that was to
be told: on a busy machine that happens, and then it is played again."""
STARVED = ("worker.lease_lost", "turn.lost", "the lease ended before anything was sent")
MODES = ("key", "lookup", "callback", "none")
ENGINES = ("sqlite", "postgres")

SECRETS = {"secret_key": "k" * 43, "webhook_secret": "whsec_" + "A" * 43 + "="}
"""A shared database asks for them."""

UNSENT = ("after submit intent#1", "before submit POST#1")
"""Only the provider knows, and it took nothing."""
SENT = ("after submit POST#1", "before submit record#1")
"""Only the provider knows, and it took it."""

End = dict[str, Any]

COMPLETED: End = {
    "status": "completed",
    "code": None,
    "charges": 1,
    "videos": 1,
    "submissions": ["succeeded"],
    "jobs": {"delivery done": 1, "generation done": 1},
    "events": 1,
    "webhooks": 1,
    "valid": True,
}
UNKNOWN = COMPLETED | {
    "status": "failed",
    "code": "submit_unknown",
    "videos": 0,
    "submissions": ["abandoned"],
    "jobs": {"delivery done": 1, "generation dead": 1},
}
NOT_TAKEN_AT_FIRST = COMPLETED | {"submissions": ["rejected", "succeeded"]}


def paid_once(mode: str, boundary: str) -> End:
    """The end of a generation whose worker died there: the table that the sweep is about."""
    if boundary in UNSENT and mode == "lookup":
        return NOT_TAKEN_AT_FIRST
    if boundary in UNSENT and mode in {"callback", "none"}:
        return UNKNOWN | {"charges": 0}
    return UNKNOWN if boundary in SENT and mode == "none" else COMPLETED


def answer_lost(mode: str, boundary: str) -> End:
    """The first call's connection is cut after it was taken: what dies later dies in clearing that up."""
    end = paid_once(mode, boundary)
    return UNKNOWN | {"charges": end["charges"]} if mode == "none" else end


CANCELLED = COMPLETED | {
    "status": "cancelled",
    "videos": 0,
    "submissions": ["failed"],
    "jobs": {"delivery done": 1, "generation cancelled": 1},
}


def again(end: End, before: Sequence[str] = (), failed: str = "delivery done") -> End:
    """The end of a second run, whose first one had its own event."""
    jobs = Counter(end["jobs"]) + Counter({failed: 1})
    return end | {"events": 2, "webhooks": 2, "jobs": dict(jobs), "submissions": [*before, *end["submissions"]]}


@dataclass(frozen=True, slots=True)
class Story:
    """What happens to a generation.

    Args:
        prompt: with the faults that the mock is to show.
        end: what must come of it when the worker dies at a boundary, by mode and boundary.
        before: what is done before the worker comes that will die.
        modes: with which means of recovery it is told.
        wanted: which of its boundaries are worth it.
    """

    prompt: str
    end: Callable[[str, str], End]
    before: Callable[[House, str], Any] | None = None
    modes: Sequence[str] = MODES
    wanted: Callable[[str], bool] = lambda _: True


@asynccontextmanager
async def working(house: House) -> AsyncIterator[None]:
    """A worker in this process meanwhile."""
    stop = asyncio.Event()
    worker = asyncio.create_task(run_until(make_worker(house.plant), stop))
    try:
        yield
    finally:
        stop.set()
        await worker


async def cancel_running(house: House, generation_id: str) -> None:
    async with working(house):
        await house.reached(generation_id, "generating")
    assert (await house.api.post(f"/api/generations/{generation_id}/cancel")).status_code == 202


async def redrive(house: House, generation_id: str) -> None:
    async with working(house):
        failed = await house.ended(generation_id)
        await house.webhooks(1)
    assert failed["status"] == "failed", failed
    assert (await house.api.post(f"/api/generations/{generation_id}/redrive")).status_code == 202


def first_poll(label: str) -> bool:
    """How many more there are is a matter of time."""
    return " poll " in label and label.endswith("#1")


def around_the_lost_call(label: str) -> bool:
    """Only the first looks for what became of it, for the same reason."""
    return (" resolve " in label and label.endswith("#1")) or label in {*UNSENT, *SENT}


STORIES = {
    "plain": Story("a fox", paid_once),
    "still generating": Story("[[slow:1.5]]", paid_once, modes=("key",), wanted=first_poll),
    "answer lost": Story("[[drop-submit:1]]", answer_lost, wanted=around_the_lost_call),
    "cancel": Story("[[slow:60]]", lambda *_: CANCELLED, cancel_running, modes=("key",)),
    "redrive the store": Story("[[html:3]]", lambda *_: again(COMPLETED), redrive, modes=("key",)),
    "redrive anew": Story(
        "[[refuse:moderation:1]]",
        lambda mode, boundary: again(paid_once(mode, boundary), ["rejected"]),
        redrive,
        modes=("key", "none"),
        wanted=lambda label: " submit " in label,
    ),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One play of a story; `boundary` is where its worker dies."""

    story: str
    engine: str
    mode: str
    boundary: str

    def __str__(self) -> str:
        return f"{self.story}, {self.engine}, {self.mode}, killed {self.boundary}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it, and what should have."""

    end: End
    due: End
    killed: bool
    exit: int
    error: str = ""
    starved: bool = False

    @property
    def good(self) -> bool:
        return self.end == self.due and self.killed and self.exit == 0 and not self.error

    @property
    def differs(self) -> str:
        """In words, what is wrong."""
        if self.error:
            return self.error
        wrong = [f"{name} {self.end[name]!r}, not {due!r}" for name, due in self.due.items() if self.end[name] != due]
        wrong += [] if self.killed else ["the boundary was not reached"]
        return "; ".join(wrong + ([] if self.exit == 0 else [f"the second worker ended with {self.exit}"]))


@contextmanager
def place_of(server: PostgresServer | None, engine: str) -> Iterator[dict[str, Any]]:
    """An empty database of an engine: the settings that name it."""
    if engine == "sqlite":
        yield {}
    else:
        assert server is not None
        with server.new() as place:
            yield {"database_url": place.url, **SECRETS}


def order(house: House, folder: Path, **more: Any) -> dict[str, Any]:
    """What a worker process of this house is told."""
    ours = house.plant.settings
    settings = {
        "data_dir": str(folder),
        "database_url": ours.database_url,
        "mock_url": ours.mock_url,
        "mock_recovery": ours.mock_recovery,
        "mock_speed": ours.mock_speed,
        "webhook_url": ours.webhook_url,
        "port": ours.port,
    }
    settings |= SECRETS if ours.database_url else {}
    told = {"settings": FAST | QUICK | settings, "log": str(folder / "worker.log"), "callback_seconds": CALLBACKS_FOR}
    return told | more


Played = tuple[End, list[dict[str, Any]], bool]


async def play(
    zygote: Zygote, folder: Path, told: Story, engine: dict[str, Any], mode: str, kill: str | None
) -> Played:
    """A story with a worker that dies and another that goes on, or with one that lives; its end, what they told, and
    whether the machine let one starve."""
    settings = QUICK | {"mock_recovery": mode} | engine
    async with open_house(folder, work=False, speed=SPEED, **settings) as house:
        asked = await house.submit(told.prompt)
        if told.before is not None:
            await told.before(house, asked["id"])
        first = order(house, folder, kill=kill)
        if kill is not None:
            first["settings"] |= {"lease": SHORT_LEASE}
        runs = [await zygote.run(**first)]
        if kill is not None:
            runs.append(await zygote.run(**order(house, folder)))
        log = (folder / "worker.log").read_text()
        return await end_of(house, folder, asked["id"]), runs, any(word in log for word in STARVED)


async def end_of(house: House, folder: Path, generation_id: str) -> End:
    """The end state, from every side."""
    generation = await house.get(generation_id)
    kept = folder / "files" / "default"
    videos = list(kept.rglob("*.mp4")) if kept.exists() else []
    read = house.plant.db.read
    submissions = await read(lambda tx: tx.all("SELECT outcome FROM submission ORDER BY intended_at, id"))
    jobs = await read(lambda tx: tx.all("SELECT kind, status FROM job"))
    return {
        "status": generation["status"],
        "code": (generation["error"] or {}).get("code"),
        "charges": len(await house.ledger()),
        "videos": len([video for video in videos if probe(video).duration > 0]),
        "submissions": [row["outcome"] for row in submissions],
        "jobs": dict(Counter(f"{row['kind']} {row['status']}" for row in jobs)),
        "events": await read(lambda tx: tx.value("SELECT count(*) FROM webhook_event WHERE terminal = 1")),
        "webhooks": len({hook.headers["webhook-id"] for hook in house.received}),
        "valid": all(hook.valid for hook in house.received),
    }


class Sweep:
    """Plays cells, a few at a time."""

    def __init__(self, folder: Path, pool: asyncio.Queue[Zygote], server: PostgresServer | None) -> None:
        self._folder = folder
        self._pool = pool
        self._server = server
        self._plays = 0
        self.done = 0

    async def cells(self, story: str, engine: str, mode: str) -> list[Cell]:
        """One for each boundary of an undisturbed play."""
        for _ in range(TRIES):
            _, runs, starved = await self._play(story, engine, mode, None)
            if not starved:
                break
        wanted = STORIES[story].wanted
        return [Cell(story, engine, mode, label) for label in dict.fromkeys(runs[0]["seen"]) if wanted(label)]

    async def results(self, cells: Sequence[Cell]) -> dict[Cell, Result]:
        """What comes of each."""
        return dict(zip(cells, await asyncio.gather(*map(self._result, cells)), strict=True))

    async def _result(self, cell: Cell) -> Result:
        due = STORIES[cell.story].end(cell.mode, cell.boundary)
        for _ in range(TRIES):
            try:
                end, runs, starved = await self._play(cell.story, cell.engine, cell.mode, cell.boundary)
            except Exception as error:
                result = Result({}, due, killed=False, exit=0, error=repr(error))
            else:
                result = Result(end, due, runs[0]["killed"], runs[1]["exit"], runs[1]["error"], starved)
            if result.good or (result.killed and not starved):
                break
        self.done += 1
        return result

    async def _play(self, story: str, engine: str, mode: str, kill: str | None) -> Played:
        zygote = await self._pool.get()
        self._plays += 1
        folder = self._folder / str(self._plays)
        try:
            with place_of(self._server, engine) as database:
                return await play(zygote, folder, STORIES[story], database, mode, kill)
        finally:
            self._pool.put_nowait(zygote)
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def open_sweep(folder: Path, server: PostgresServer | None) -> AsyncIterator[Sweep]:
    """A sweep with processes of its own."""
    async with open_zygotes(PARALLEL) as pool:
        yield Sweep(folder, pool, server)


def kinds() -> list[tuple[str, str, str]]:
    """Every story on every database in every mode in which it is told."""
    return [(story, engine, mode) for story, told in STORIES.items() for engine in ENGINES for mode in told.modes]


async def whole(folder: Path, server: PostgresServer, stories: Sequence[str]) -> dict[Cell, Result]:
    """Every cell of these stories."""
    async with open_sweep(folder, server) as sweep:
        found = await asyncio.gather(*(sweep.cells(*kind) for kind in kinds() if kind[0] in stories))
        cells = [cell for those in found for cell in those]
        telling = asyncio.create_task(_tell(sweep, len(cells)))
        try:
            return await sweep.results(cells)
        finally:
            telling.cancel()


async def _tell(sweep: Sweep, count: int) -> None:
    while True:
        await asyncio.sleep(30)
        print(f"{sweep.done} of {count} kills", file=sys.stderr, flush=True)


def wrong(results: dict[Cell, Result]) -> list[str]:
    """What must not be, in words."""
    return [f"{cell}: {result.differs}" for cell, result in results.items() if not result.good]


def table(results: dict[Cell, Result]) -> str:
    """The sweep for people: a row per boundary, a column per mode, each cell for both databases."""
    lines = []
    for story, told in STORIES.items():
        cells = [cell for cell in results if cell.story == story]
        if not cells:
            continue
        labels = list(dict.fromkeys(cell.boundary for cell in cells))
        lines.append(f"{story:28}" + "".join(f"{mode:22}" for mode in told.modes))
        for label in labels:
            shown = (_shown(results, partial(Cell, story), mode, label) for mode in told.modes)
            lines.append(f"  {label:26}" + "".join(f"{text:22}" for text in shown))
    return "\n".join(line.rstrip() for line in lines)


def _shown(results: dict[Cell, Result], cell: Callable[[str, str, str], Cell], mode: str, label: str) -> str:
    found = [results.get(cell(engine, mode, label)) for engine in ENGINES]
    told = {
        f"{each.end['status']} {each.end['charges']}" if each.good else "WRONG" for each in found if each is not None
    }
    return " / ".join(sorted(told)) or "-"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash_sweep", description="Every story, or those named.")
    parser.add_argument("story", nargs="*", choices=[*STORIES, []], help=", ".join(STORIES))
    stories = parser.parse_args().story or list(STORIES)
    started = time.monotonic()
    server = start_postgres()
    try:
        with tempfile.TemporaryDirectory(prefix="dailies-crashes-") as folder:
            results = asyncio.run(whole(Path(folder), server, stories))
    finally:
        server.stop()
        shutil.rmtree(server.folder)
    print("status and how often the provider charged; the same on SQLite and PostgreSQL, or both are shown\n")
    print(table(results))
    found = wrong(results)
    told = f"{len(results)} kills on {len(ENGINES)} databases in {time.monotonic() - started:.0f} s"
    print("\n".join(found) if found else f"{told}: every end is the one that belongs to it")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
