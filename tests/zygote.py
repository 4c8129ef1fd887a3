"""Worker processes that die on cue. Run as a program: one JSON order per line on stdin, one JSON answer per line on
stdout.

It imports everything once and forks a process per order, so that a kill costs a fork instead of a start. An order
names the settings and, if the process is to die, the boundary: before or after the n-th commit of a kind, or HTTP
exchange of a client. The process kills itself there with SIGKILL; without one it works until every job has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from pipeline import telemetry
from pipeline.app import Plant, make_worker, open_plant
from pipeline.config import Settings
from pipeline.worker import run_until
from tests.everyone import hasten

NAMES = {"_submit": "intent", "Runner._record": "record", "Worker._look": "claim"}
"""What the commits are, by the function that hands them in."""


class Boundaries:
    """Counts what passes and kills the process at the one asked for."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.seen: list[str] = []
        self.counts: Counter[str] = Counter()

    def pass_(self, name: str) -> None:
        self.counts[name] += 1
        label = f"{name}#{self.counts[name]}"
        self.seen.append(label)
        if label == self.target:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(plant: Plant, boundaries: Boundaries) -> None:
    """Let every commit and every exchange of the worker pass the boundaries."""
    write = plant.db.write

    async def watched(unit: Any, **options: Any) -> Any:
        function = unit.__qualname__.partition(".<locals>")[0]
        name = NAMES.get(function, function)
        boundaries.pass_(f"before {name}")
        result = await write(unit, **options)
        boundaries.pass_(f"after {name}")
        return result

    plant.db.write = watched  # type: ignore[method-assign]
    for name in ("submit", "calls", "fetch", "webhooks"):
        client: httpx.AsyncClient = getattr(plant.outbound, name)

        async def sent(request: httpx.Request, name: str = name) -> None:
            boundaries.pass_(f"before {name} request")

        async def answered(response: httpx.Response, name: str = name) -> None:
            boundaries.pass_(f"after {name} response")

        client.event_hooks = {"request": [sent], "response": [answered]}


async def work(order: dict[str, Any]) -> list[str]:
    settings = Settings(_env_file=None, **order["settings"])  # type: ignore[call-arg]
    boundaries = Boundaries(order.get("kill"))
    async with open_plant(settings) as plant:
        if order.get("speed"):
            hasten(plant, order["speed"])
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
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        seen = json.loads(report.read_text()) if report.exists() and not killed else []
        print(json.dumps({"killed": killed, "exit": os.waitstatus_to_exitcode(status), "seen": seen}), flush=True)


if __name__ == "__main__":
    main()
