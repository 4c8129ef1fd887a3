"""Worker processes that die on cue. Run as a program: one JSON order per line on stdin, one JSON answer per line on
stdout.

It imports everything once and forks a process per order, so that a kill costs a fork instead of a start. An order
names the settings and, if the process is to die, the boundary: before or after the n-th thing of a kind that a step
does, such as `after submit POST#1`. The process kills itself there with SIGKILL; without one it works until every job
has ended.

The kinds: `claim` (only after; told of the step that was claimed), `intent` and `record` (commits), `POST` (a paid call
or a webhook; after is when it was answered), `call` (any other call of a provider), `download`, and `put` (a file into
storage).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from pipeline import telemetry
from pipeline.app import Plant, make_worker, open_plant
from pipeline.config import Settings
from pipeline.turn import Turn
from pipeline.worker import run_until
from tests.everyone import hasten

COMMITS = {"_submit": "intent", "Runner._record": "record", "Gathered._record": "record"}
"""What the commits of a turn are, by the function that hands them in."""
EXCHANGES = {"submit": "POST", "calls": "call", "fetch": "download", "webhooks": "POST"}
"""What a client of `Outbound` is for."""


class Boundaries:
    """Counts what passes and kills the process at the one asked for."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.seen: list[str] = []
        self.counts: Counter[str] = Counter()
        self._steps: dict[str, str] = {}

    def claimed(self, turns: Iterable[Turn]) -> None:
        """Turns were claimed: whatever their tasks do from now on is theirs."""
        for turn in turns:
            self._steps[f"turn-{turn.claim.id}"] = turn.claim.step.value
            self._pass(f"after {turn.claim.step.value} claim")

    def before(self, kind: str) -> None:
        """The turn of this task is about to do something."""
        self._of_turn("before", kind)

    def after(self, kind: str) -> None:
        """It has done it."""
        self._of_turn("after", kind)

    def _of_turn(self, when: str, kind: str) -> None:
        task = asyncio.current_task()
        step = self._steps.get(task.get_name()) if task is not None else None
        if step is not None:
            self._pass(f"{when} {step} {kind}")

    def _pass(self, name: str) -> None:
        self.counts[name] += 1
        label = f"{name}#{self.counts[name]}"
        self.seen.append(label)
        if label == self.target:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(plant: Plant, boundaries: Boundaries) -> None:
    """Let every commit, every exchange and every file of the worker's turns pass the boundaries."""
    write, put = plant.db.write, plant.storage.put

    async def written(unit: Any, **options: Any) -> Any:
        kind = COMMITS.get(getattr(unit, "__qualname__", "").partition(".<locals>")[0])
        if kind is not None:
            boundaries.before(kind)
        result = await write(unit, **options)
        boundaries.claimed(getattr(result, "turns", ()))
        if kind is not None:
            boundaries.after(kind)
        return result

    async def kept(*args: Any, **options: Any) -> None:
        boundaries.before("put")
        await put(*args, **options)
        boundaries.after("put")

    plant.db.write = written  # type: ignore[method-assign]
    plant.storage.put = kept  # type: ignore[method-assign]
    for name, kind in EXCHANGES.items():
        client: httpx.AsyncClient = getattr(plant.outbound, name)

        async def sent(request: httpx.Request, kind: str = kind) -> None:
            boundaries.before(kind)

        async def answered(response: httpx.Response, kind: str = kind) -> None:
            boundaries.after(kind)

        client.event_hooks = {"request": [sent], "response": [answered]}


def impatient(plant: Plant, seconds: float) -> None:
    """Let the mock's callbacks be waited for no longer than this, instead of half a minute."""
    mock = plant.providers.ready["mock"]
    if mock.capabilities.recovery.callback_seconds is not None:
        recovery = replace(mock.capabilities.recovery, callback_seconds=seconds)
        mock.capabilities = replace(mock.capabilities, recovery=recovery)


async def work(order: dict[str, Any]) -> list[str]:
    settings = Settings(_env_file=None, **order["settings"])  # type: ignore[call-arg]
    boundaries = Boundaries(order.get("kill"))
    async with open_plant(settings) as plant:
        if order.get("speed"):
            hasten(plant, order["speed"])
        if order.get("callback_seconds"):
            impatient(plant, order["callback_seconds"])
        watch(plant, boundaries)
        stop = asyncio.Event()
        worker = asyncio.create_task(run_until(make_worker(plant), stop))
        deadline = time.monotonic() + order.get("seconds", 20)
        while time.monotonic() < deadline and not (order.get("until_held") and await held(plant)):
            open_jobs = await plant.db.read(lambda tx: tx.value("SELECT count(*) FROM job WHERE finished_at IS NULL"))
            if open_jobs == 0:
                break
            await asyncio.sleep(0.03)
        stop.set()
        await worker
    return boundaries.seen


async def held(plant: Plant) -> bool:
    """Whether all that is left is held, and has been for a second."""
    stages = await plant.db.read(
        lambda tx: tx.all(
            "SELECT stage FROM generation WHERE finished_at IS NULL AND NOT (stage = 'held' AND updated_at < :since)",
            {"since": tx.now - 1000},
        )
    )
    return not stages


def child(order: dict[str, Any], report: Path) -> None:
    with Path(order["log"]).open("a") as log:
        telemetry.configure("json", "info", log)
        report.write_text(json.dumps(asyncio.run(work(order))))


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        report = Path(order["log"] + ".seen")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(order, report)
                status = 0
            except BaseException:
                report.with_suffix(".error").write_text(traceback.format_exc())
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        seen = json.loads(report.read_text()) if report.exists() and not killed else []
        error = report.with_suffix(".error").read_text() if status and not killed else ""
        told = {"killed": killed, "exit": os.waitstatus_to_exitcode(status), "seen": seen, "error": error}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
