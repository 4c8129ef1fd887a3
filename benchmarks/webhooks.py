"""How fast signed webhooks go out: `python -m benchmarks.webhooks [--short] [--json FILE]`.

Two figures, each of us and of what one would write without us, in the same run and in turn, as medians of the rounds:

    deliveries per second   one process, 64 in flight, over loopback; ours also with database, worker and record
    latency at 50/s         from the commit (or the hand-over, where there is none) to the first byte at the receiver
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.office import office
from benchmarks.receiver import Remote, receiving
from benchmarks.senders import SendOne, client_each, first_bytes, ours, rate, shared_client

IN_FLIGHT, PER_SECOND, PORTS = 64, 50.0, 8
BAR_RATE, BAR_P99_MS = 800.0, 100.0

Sender = Callable[[Path], AbstractAsyncContextManager[SendOne]]
SENDERS: dict[str, Sender] = {
    "ours, sending alone": ours,
    "one shared httpx client": shared_client,
    "httpx client per delivery, stored": client_each,
}
RECORDED = "ours, with database and record"


@dataclass(frozen=True)
class Plan:
    """How long it takes: rounds, seconds of each measurement, deliveries of each round through the database."""

    rounds: int
    seconds: float
    recorded: int


PLAN, SHORT = Plan(3, 4.0, 3000), Plan(1, 0.5, 200)


async def measure(plan: Plan) -> dict[str, dict[str, float]]:
    """Every figure by contender: `rate`, `p50_ms`, `p99_ms`, `worst_ms`."""
    rates: dict[str, list[float]] = {name: [] for name in (*SENDERS, RECORDED)}
    spent: dict[str, list[float]] = {name: [] for name in (*SENDERS, RECORDED)}
    with tempfile.TemporaryDirectory() as folder, receiving(PORTS) as remote:
        for number in range(plan.rounds):
            for name, sender in SENDERS.items():
                async with sender(Path(folder)) as one:
                    rates[name].append(await rate(one, remote.urls, in_flight=IN_FLIGHT, seconds=plan.seconds))
                    handed = await first_bytes(one, remote.urls, per_second=PER_SECOND, seconds=plan.seconds)
                spent[name] += _spent(handed, remote)
            place = Path(folder) / f"office-{number}"
            rates[RECORDED].append(await recorded_rate(place / "rate", remote.urls, plan.recorded))
            spent[RECORDED] += _spent(await recorded_first_bytes(place / "latency", remote.urls, plan), remote)
    return {name: {"rate": statistics.median(rates[name]), **_percentiles(spent[name])} for name in rates}


async def recorded_rate(folder: Path, urls: list[str], count: int) -> float:
    """Deliveries per second through database, worker and record, of a backlog that is all due."""
    async with office(folder, urls) as place:
        await place.post(len(urls))
        await place.until_delivered(len(urls))
        began = time.monotonic()
        await place.post(count)
        await place.until_delivered(len(urls) + count)
        return count / (time.monotonic() - began)


async def recorded_first_bytes(folder: Path, urls: list[str], plan: Plan) -> dict[str, int]:
    """When each of the events was committed, by its id."""
    handed: dict[str, int] = {}
    async with office(folder, urls) as place:
        began, count = time.monotonic(), int(PER_SECOND * plan.seconds)
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
            (event,), done = await place.post(1, number)
            handed[event] = done
        await place.until_delivered(count)
    return handed


def _spent(handed: dict[str, int], remote: Remote) -> list[float]:
    times = remote.times()
    return [max(0.0, (times[event] - at) / 1e6) for event, at in handed.items()]


def _percentiles(values: list[float]) -> dict[str, float]:
    ranked = sorted(values)
    at = {"p50_ms": 0.5, "p99_ms": 0.99, "worst_ms": 1.0}
    return {name: ranked[min(len(ranked) - 1, int(len(ranked) * share))] for name, share in at.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures for people."""
    lines = [f"{'':<36}{'deliveries/s':>14}{'p50 ms':>10}{'p99 ms':>10}{'worst ms':>10}"]
    for name, row in found.items():
        lines.append(
            f"{name:<36}{row['rate']:>14.0f}{row['p50_ms']:>10.1f}{row['p99_ms']:>10.1f}{row['worst_ms']:>10.1f}"
        )
    return "\n".join(lines)


def misses(found: dict[str, dict[str, float]]) -> list[str]:
    """What is below the bar."""
    alone, recorded = found["ours, sending alone"]["rate"], found[RECORDED]["p99_ms"]
    missed = [f"{alone:.0f} deliveries/s alone, the bar is {BAR_RATE:.0f}"] if alone < BAR_RATE else []
    return missed + ([f"p99 {recorded:.0f} ms, the bar is {BAR_P99_MS:.0f}"] if recorded > BAR_P99_MS else [])


def main() -> int:
    """Print the table and JSON; 1 if the bar is missed, but never in the short mode, which only proves that it runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few seconds, without a bar")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    found = asyncio.run(measure(SHORT if asked.short else PLAN))
    print(table(found))
    print(json.dumps(found))
    if asked.json:
        Path(asked.json).write_text(json.dumps(found, indent=2) + "\n")
    missed = [] if asked.short else misses(found)
    for text in missed:
        print(f"missed: {text}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
