"""A worker process is killed with -9 at every boundary of every turn: one charge, one stored video, one event, every
time.

The boundaries are found by a run without a kill: before and after each commit, before and after each HTTP exchange.
For each a fresh worker is killed right there and a second one carries on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.media import probe
from tests.house import FAST, House, open_house

pytestmark = pytest.mark.anyio

QUICK = {"lease": 0.6, "submit_timeout": 2.0, "drain_timeout": 2.0}
PARALLEL = 3
TOLD = ("intent", "record", "request", "response")
"""The boundaries of turns; other commits (claims, heartbeats) come and go with time."""

UNSURE = ("after intent#1", "before submit request#1", "after submit response#1", "before record#1")
"""Between the commit of the intent and that of the answer: only the provider knows."""


class Zygote:
    """The program that forks workers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 40))
        return answer


@asynccontextmanager
async def open_zygotes(count: int) -> AsyncIterator[asyncio.Queue[Zygote]]:
    """A pool of them."""
    pool: asyncio.Queue[Zygote] = asyncio.Queue()
    processes = []
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.zygote",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        processes.append(process)
        pool.put_nowait(Zygote(process))
    try:
        yield pool
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


def order(house: House, folder: Path, **more: Any) -> dict[str, Any]:
    """What a worker process of this house is told."""
    ours = house.plant.settings
    settings = (
        FAST
        | QUICK
        | {
            "data_dir": str(folder),
            "mock_url": ours.mock_url,
            "mock_recovery": ours.mock_recovery,
            "mock_speed": ours.mock_speed,
            "webhook_url": ours.webhook_url,
            "port": ours.port,
        }
    )
    return {"settings": settings, "log": str(folder / "worker.log")} | more


async def boundaries(pool: asyncio.Queue[Zygote], folder: Path, mode: str) -> list[str]:
    """The boundaries of an undisturbed run."""
    zygote = await pool.get()
    try:
        async with open_house(folder, work=False, mock_recovery=mode, **QUICK) as house:
            await house.submit("an undisturbed fox")
            seen = (await zygote.run(**order(house, folder)))["seen"]
    finally:
        pool.put_nowait(zygote)
    return ["after claim#1", *(label for label in seen if any(word in label for word in TOLD))]


async def crash_at(pool: asyncio.Queue[Zygote], folder: Path, mode: str, boundary: str) -> dict[str, Any]:
    """Kill one worker at the boundary, let another finish, and say what came of it."""
    zygote = await pool.get()
    try:
        async with open_house(folder, work=False, mock_recovery=mode, **QUICK) as house:
            asked = await house.submit("a fox that is interrupted")
            first = await zygote.run(**order(house, folder, kill=boundary))
            second = await zygote.run(**order(house, folder))
            return await outcome(house, folder, asked["id"]) | {"killed": first["killed"], "exit": second["exit"]}
    finally:
        pool.put_nowait(zygote)


async def outcome(house: House, folder: Path, generation_id: str) -> dict[str, Any]:
    """The end state, from every side."""
    generation = await house.get(generation_id)
    videos = list((folder / "files" / "default").rglob("*.mp4")) if (folder / "files" / "default").exists() else []
    terminal = await house.plant.db.read(lambda tx: tx.value("SELECT count(*) FROM webhook_event WHERE terminal = 1"))
    return {
        "status": generation["status"],
        "code": (generation["error"] or {}).get("code"),
        "charges": len(await house.ledger()),
        "videos": len([video for video in videos if probe(video).duration > 0]),
        "events": terminal,
        "ids": len({hook.headers["webhook-id"] for hook in house.received}),
        "valid": all(hook.valid for hook in house.received),
        "spooled": len(list((folder / "spool").iterdir())),
    }


async def sweep(tmp_path: Path, mode: str, labels: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The end state after a crash at each of these boundaries, at every one unless given."""
    results: dict[str, dict[str, Any]] = {}
    async with open_zygotes(PARALLEL) as pool:
        found = labels or await boundaries(pool, tmp_path / "undisturbed", mode)

        async def one(number: int, label: str) -> None:
            results[label] = await crash_at(pool, tmp_path / str(number), mode, label)

        await asyncio.gather(*(one(number, label) for number, label in enumerate(found)))
    return results


COMPLETED = {"status": "completed", "code": None, "charges": 1, "videos": 1, "events": 1, "ids": 1, "valid": True}
UNKNOWN = COMPLETED | {"status": "failed", "code": "submit_unknown", "videos": 0}


def wrong(results: dict[str, dict[str, Any]], *allowed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The boundaries whose end state is none of the allowed."""
    seen = {label: {key: end[key] for key in COMPLETED} for label, end in results.items()}
    return {label: end for label, end in seen.items() if end not in allowed}


async def test_with_idempotency_keys_every_crash_ends_completed_and_charged_once(tmp_path):
    results = await sweep(tmp_path, "key")
    assert sum(end["killed"] for end in results.values()) >= 18
    assert set(UNSURE) | {"before fetch request#1", "before webhooks request#1", "after webhooks response#1"} <= set(
        results
    )
    assert wrong(results, COMPLETED) == {}


async def test_without_any_recovery_a_crash_around_the_paid_call_is_told_and_never_repeated(tmp_path):
    results = await sweep(tmp_path, "none")
    assert wrong(results, COMPLETED, UNKNOWN, UNKNOWN | {"charges": 0}) == {}
    assert {label: end for label, end in results.items() if end["status"] == "failed" and label not in UNSURE} == {}
    assert {label for label, end in results.items() if end["status"] == "failed"} == set(UNSURE)
    assert [results[label]["charges"] for label in UNSURE] == [0, 0, 1, 1]


async def test_with_lookup_a_crash_around_the_paid_call_is_cleared_up(tmp_path):
    assert wrong(await sweep(tmp_path, "lookup", UNSURE), COMPLETED) == {}


async def test_with_callbacks_work_that_was_taken_is_found_again(tmp_path):
    assert wrong(await sweep(tmp_path, "callback", UNSURE[2:]), COMPLETED) == {}
