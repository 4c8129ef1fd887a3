"""A real worker process that is measured: `python -m benchmarks.measured`, its order as JSON on standard input.

It prints `ready` when it works, and one JSON object of figures at the end of the measured time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import event

from benchmarks.servers import TICKS
from pipeline import telemetry
from pipeline.app import Plant, make_worker, open_plant
from pipeline.config import Settings
from pipeline.db import Tx
from pipeline.worker import run_until

CLAIM, RECORDS = "Worker._look", {"Runner._record", "Gathered._record"}
"""The functions whose units are a claim, and records."""


@dataclass
class Meter:
    """What is counted. `lateness` is in milliseconds, from when a poll was due: until it was claimed, and until its
    answer was there."""

    claimed: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)
    units: Counter[str] = field(default_factory=Counter)
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    statements: int = 0
    open: int = 0
    most: int = 0
    made: int = 0
    crashed: int = 0

    def listen(self, name: str, fields: Mapping[str, Any]) -> None:
        if name == "turn.done" and fields["step"] == "poll":
            self.claimed.append(fields["late_ms"])
            self.answered.append(fields["late_ms"] + fields["run_ms"])
            self.recorded.append(fields["record_ms"])
        elif name in {"turn.lost", "turn.crashed", "worker.failed", "worker.lease_lost"}:
            self.crashed += 1

    def reset(self) -> None:
        """Begin to count; connections that are open stay so."""
        self.claimed, self.answered, self.recorded = [], [], []
        self.units, self.cpu = Counter(), defaultdict(float)
        self.statements = self.crashed = self.made = 0
        self.most = self.open


def attach(plant: Plant, meter: Meter) -> None:
    """Count what passes through the database's door, and the connections behind it."""
    write = plant.db.write

    async def measured(unit: Callable[[Tx], Any], **options: Any) -> Any:
        name = getattr(unit, "__qualname__", "").partition(".<locals>")[0]
        kind = "claim" if name == CLAIM else "record" if name in RECORDS else "other"

        def timed(tx: Tx) -> Any:
            began = time.thread_time()
            try:
                return unit(tx)
            finally:
                meter.cpu[kind] += time.thread_time() - began
                meter.units[kind] += 1

        return await write(timed, **options)

    plant.db.write = measured  # type: ignore[method-assign]

    def counted(*_: object) -> None:
        meter.statements += 1

    def opened(*_: object) -> None:
        meter.open, meter.made = meter.open + 1, meter.made + 1
        meter.most = max(meter.most, meter.open)

    def closed(*_: object) -> None:
        meter.open -= 1

    pool = plant.db.engine.pool
    meter.open = pool.checkedin() + pool.checkedout()  # type: ignore[attr-defined]
    event.listen(plant.db.engine, "before_cursor_execute", counted)
    event.listen(pool, "connect", opened)
    event.listen(pool, "close", closed)


def memory() -> dict[str, float]:
    """Megabytes of this process, now and at most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("rss", "VmRSS"), ("peak", "VmHWM"))}


def threads() -> dict[str, float]:
    """CPU seconds by kind of thread: the event loop's, the database's."""
    spent: dict[str, float] = {"loop": 0.0, "database": 0.0, "rest": 0.0}
    for thread in threading.enumerate():
        kind = "loop" if thread is threading.main_thread() else "rest"
        kind = "database" if thread.name.startswith("dailies-writer") else kind
        fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
        spent[kind] += (int(fields[11]) + int(fields[12])) / TICKS
    return spent


def starved() -> float:
    """Seconds for which the event loop had work and no core to do it on, since others of this machine had them."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


async def overdue(plant: Plant) -> int:
    """Milliseconds by which the poll that waits longest is late just now; 0 if none is."""
    sql = "SELECT min(scheduled_for) FROM job WHERE status = 'pending' AND step = 'poll'"
    return await plant.db.read(lambda tx: max(0, tx.now - int(tx.value(sql) or tx.now)))


async def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Work as long as the order says, count after `settle` seconds for `seconds`."""
    meter = Meter()
    async with open_plant(Settings(_env_file=None, **order["settings"])) as plant:
        attach(plant, meter)
        unsubscribe = telemetry.subscribe(meter.listen)
        stop = asyncio.Event()
        worker = asyncio.create_task(run_until(make_worker(plant), stop))
        print("ready", flush=True)
        await asyncio.sleep(order["settle"])
        meter.reset()
        before, cpu, commits, began = threads(), time.process_time(), plant.db.commits, time.monotonic()
        waited = starved()
        await asyncio.sleep(order["seconds"])
        found = {
            "seconds": time.monotonic() - began,
            "cpu": time.process_time() - cpu,
            "threads": {name: spent - before[name] for name, spent in threads().items()},
            "commits": plant.db.commits - commits,
            "starved": starved() - waited,
            **{name: getattr(meter, name) for name in ("claimed", "answered", "recorded", "statements", "crashed")},
            "units": dict(meter.units),
            "unit_cpu": dict(meter.cpu),
            "connections": {"now": meter.open, "most": meter.most, "made": meter.made},
            "memory": memory(),
            "overdue": await overdue(plant),
        }
        print(json.dumps(found), flush=True)
        stop.set()
        await worker
        unsubscribe()
    return found


def main() -> None:
    """Read the order, work, print."""
    telemetry.configure("json", "warning")
    order = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(order))


if __name__ == "__main__":
    main()
