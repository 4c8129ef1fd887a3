"""How much one worker process holds in flight: `python -m benchmarks.in_flight [COUNT ...]`.

A real worker process, the mock in its own, and COUNT generations whose provider takes two hours and is asked every
30 s. They are written straight into the database and the mock's ledger, so nothing has to be submitted. Measured for
each count and engine, after one round of settling:

    late ms      from when a poll was due until its answer was there: half of them, 99 of 100, the worst
    CPU us/poll  of the worker: all of it; in claims, in records, in commits; in the event loop (HTTP and the turn)
    of others    CPU of the mock, and of PostgreSQL's processes, per poll
    per poll     commits, statements; claims are looks at the queue, each of which takes what is due by then
    MB           resident memory of the worker at the end, and at its highest
    starved      the share of the time for which the worker had work and no core, since others of the machine had them:
                 beyond a tenth the machine is measured and not the worker, and lateness is held to no bar
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.fleet import launch
from benchmarks.servers import ROOT, Postgres, cpu_of, cpu_of_family, mock, postgres

COUNTS, ENGINES = (1_000, 5_000, 20_000), ("sqlite", "postgres")
LATE_MS, MEGABYTES, STARVED = 5_000, 300, 0.1


@dataclass(frozen=True)
class Plan:
    """Seconds: between the polls of one generation, before the measurement, of it."""

    interval: float = 30.0
    settle: float = 30.0
    seconds: float = 60.0
    settings: tuple[tuple[str, str], ...] = ()


def settings_of(plan: Plan, folder: Path, mock_url: str, database: str) -> dict[str, str]:
    """A worker as it comes, but for the pace of polls."""
    return {
        "provider": "mock",
        "mock_url": mock_url,
        "mock_speed": "0.004",
        "allowed_networks": "127.0.0.0/8",
        "webhook_url": "",
        "secret_key": "benchmark-" * 4,
        "webhook_secret": "whsec_" + "QUJD" * 8,
        "data_dir": str(folder),
        "database_url": database,
        "max_in_flight": "100000",
        "poll_interval": str(plan.interval),
        "poll_interval_max": str(plan.interval),
        "generation_timeout": "86400",
        **dict(plan.settings),
    }


@contextmanager
def working(order: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A worker process under way."""
    words = [sys.executable, "-m", "benchmarks.measured"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as process:
        try:
            _input(process).write(json.dumps(order) + "\n")
            _input(process).flush()
            yield process
        finally:
            process.terminate()


def _input(process: subprocess.Popen[str]) -> IO[str]:
    return cast("IO[str]", process.stdin)


def measure(engine: str, count: int, plan: Plan) -> dict[str, Any]:
    """One row of the table, with a server of its own. Raises FileNotFoundError where PostgreSQL is not installed."""
    with tempfile.TemporaryDirectory(prefix="dailies-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(postgres(folder / "postgres")) if engine == "postgres" else None
        url = server.url if server else f"sqlite:///{folder / 'dailies.db'}"
        return {"engine": engine} | hold(url, folder, count, plan, server)


def hold(url: str, folder: Path, count: int, plan: Plan, server: Postgres | None = None) -> dict[str, Any]:
    """So many in flight, in an empty database: the figures of the worker, and of the `server` if it is ours."""
    with ExitStack() as stack:
        asyncio.run(launch(url, folder / "mock.db", count, plan.interval))
        provider = stack.enter_context(mock(folder / "mock.db", 0.004))
        order = {
            "settings": settings_of(plan, folder, provider.url, url),
            "settle": plan.settle,
            "seconds": plan.seconds,
        }
        process = stack.enter_context(working(order))
        lines = cast("IO[str]", process.stdout)
        assert lines.readline() == "ready\n", "the worker did not start"
        time.sleep(plan.settle)
        before = _others(provider.pid, server)
        found = json.loads(lines.readline())
        after = _others(provider.pid, server)
    others = {name: after[name] - before[name] for name in after}
    return {"count": count} | figures(found) | _per_poll(others, len(found["claimed"]))


def _others(provider: int, server: Postgres | None) -> dict[str, float]:
    """CPU seconds of the processes beside the worker, and bytes of PostgreSQL's log."""
    spent = {"mock_us": cpu_of(provider) * 1e6}
    if server is not None:
        spent["server_us"] = cpu_of_family(server.pid) * 1e6
        spent["wal_bytes"] = float(cast("float", server.ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")))
    return spent


def _per_poll(sums: dict[str, float], polls: int) -> dict[str, float]:
    return {name: round(value / max(1, polls)) for name, value in sums.items()}


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """What a worker counted, per poll."""
    polls = max(1, len(found["claimed"]))
    per_poll = {
        "cpu_us": found["cpu"] * 1e6,
        "claim_us": found["unit_cpu"].get("claim", 0.0) * 1e6,
        "record_us": found["unit_cpu"].get("record", 0.0) * 1e6,
        "loop_us": found["threads"]["loop"] * 1e6,
        "database_us": found["threads"]["database"] * 1e6,
    }
    return {
        "polls_s": round(len(found["claimed"]) / found["seconds"], 1),
        **{f"late_{name}": value for name, value in percentiles(found["answered"]).items()},
        **{f"claimed_{name}": value for name, value in percentiles(found["claimed"]).items()},
        **{f"record_{name}": value for name, value in percentiles(found["recorded"]).items()},
        "overdue_ms": found["overdue"],
        **_per_poll(per_poll, polls),
        "core": round(found["cpu"] / found["seconds"], 2),
        "starved": round(found["starved"] / found["seconds"], 2),
        "commits": round(found["commits"] / polls, 3),
        "statements": round(found["statements"] / polls, 2),
        "looks": round(found["units"].get("claim", 0) / polls, 3),
        "records": round(found["units"].get("record", 0) / polls, 3),
        "connections": found["connections"],
        "rss": round(found["memory"]["rss"]),
        "peak": round(found["memory"]["peak"]),
        "crashed": found["crashed"],
        "load": round(os.getloadavg()[0], 1),
    }


def percentiles(values: Sequence[int]) -> dict[str, int]:
    """`p50`, `p99` and `worst`."""
    ranked = sorted(values) or [0]
    at = {"p50": 0.5, "p99": 0.99, "worst": 1.0}
    return {name: ranked[min(len(ranked) - 1, int(len(ranked) * share))] for name, share in at.items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures for people."""
    heads = (
        f"{'':<18}{'polls/s':>8}{'late ms p50/p99/worst':>24}{'CPU us/poll':>12}{'claim':>7}{'record':>7}{'commit':>7}"
        f"{'loop':>6}{'mock':>6}{'server':>7}{'commits':>8}{'stmts':>7}{'looks':>7}{'MB/peak':>9}{'conn':>5}{'starved':>8}"
    )
    return "\n".join([heads, *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    late = f"{row['late_p50']}/{row['late_p99']}/{row['late_worst']}"
    commit = max(0, row["database_us"] - row["claim_us"] - row["record_us"])
    return (
        f"{row['engine'] + ' ' + format(row['count'], ','):<18}{row['polls_s']:>8}{late:>24}{row['cpu_us']:>12}"
        f"{row['claim_us']:>7}{row['record_us']:>7}{commit:>7}{row['loop_us']:>6}{row['mock_us']:>6}"
        f"{row.get('server_us', '-'):>7}{row['commits']:>8}{row['statements']:>7}{row['looks']:>7}"
        f"{row['rss']:>5}/{row['peak']}{row['connections']['most']:>5}{row['starved']:>8.0%}"
    )


def misses(row: dict[str, Any]) -> list[str]:
    """Where a row is below the bar."""
    name = f"{row['engine']} {row['count']}"
    late = max(row["late_worst"], row["overdue_ms"])
    alone = row["starved"] <= STARVED
    missed = [f"{name}: a poll was {late} ms late, the bar is {LATE_MS}"] if late > LATE_MS and alone else []
    missed += [f"{name}: {row['peak']} MB, the bar is {MEGABYTES}"] if row["peak"] > MEGABYTES else []
    made = row["connections"]["made"]
    return missed + ([f"{name}: {made} new database connections"] if made else [])


def main() -> int:
    """Print the table and JSON; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, metavar="COUNT", help="generations in flight")
    parser.add_argument("--engine", choices=ENGINES, help="one alone; both unless given")
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="how long to measure")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the worker")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    own = tuple((name.lower(), value) for name, _, value in (text.partition("=") for text in asked.set))
    plan = Plan(seconds=asked.seconds, settings=own)
    rows = []
    for engine in [asked.engine] if asked.engine else ENGINES:
        for count in asked.counts or COUNTS:
            rows.append(measure(engine, count, plan))
            print(table(rows[-1:]) if len(rows) == 1 else _line(rows[-1]), flush=True)
    if asked.json:
        Path(asked.json).write_text(json.dumps(rows, indent=2) + "\n")
    missed = [text for row in rows for text in misses(row)]
    for text in missed:
        print(f"missed: {text}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
