"""Faults one after the other on one stage, each between two quiet windows in which the same is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pipeline.drill.rules import Violation
from pipeline.drill.verdict import verdict
from tests.faults.breaking import Fault
from tests.faults.stage import Stage

RECOVERY_SECONDS = 60.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """A quiet time: when it began and ended, in milliseconds, and the most orders that were open in it."""

    start: int
    end: int
    backlog: int = 0

    def rate(self, ends: Sequence[tuple[int, int]]) -> float:
        """Completions per second."""
        done = sum(self.start <= ended < self.end for _, ended in ends)
        return done * 1000 / (self.end - self.start)

    def latency(self, ends: Sequence[tuple[int, int]]) -> float:
        """The median of how long those took that ended in it, in milliseconds."""
        took = [ended - asked for asked, ended in ends if self.start <= ended < self.end]
        return median(took) if took else 0.0


@dataclass(slots=True)
class Hit:
    """A fault as it went: `recovered` is how long after its end the backlog of it had been worked off, in seconds;
    None if it had not been within a minute."""

    fault: Fault
    done: str
    before: Window
    struck: Window
    recovered: float | None
    after: Window


@dataclass(frozen=True, slots=True)
class Row:
    """A hit in figures: completions per second and median latency (ms) before and after, the worst silence (s)."""

    name: str
    done: str
    recovered: float | None
    silence: float
    before: float
    after: float
    latency_before: float
    latency_after: float

    @property
    def share(self) -> float:
        """Of the throughput before, what is there after."""
        return self.after / self.before if self.before else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A stage: its rows, what became of the orders, and every promise that was broken."""

    engine: str
    rows: Sequence[Row]
    orders: int
    ends: dict[str, int]
    unexpected: dict[int, int]
    violations: Sequence[Violation]


async def measure(
    stage: Stage, faults: Sequence[Fault], *, rate: float, quiet: float, seconds: float, most: int = 1_000
) -> Report:
    """`rate` orders a second meanwhile, at most `most` open; `quiet` is the length of a window, `seconds` that of a
    fault."""
    stop = asyncio.Event()
    hits: list[Hit] = []
    async with asyncio.TaskGroup() as group:
        load = group.create_task(stage.offer(rate, stop, most))
        try:
            await asyncio.sleep(min(quiet, 3.0))
            before = await _window(stage, quiet)
            for fault in faults:
                hits.append(await _hit(stage, fault, before, quiet, seconds))
                before = hits[-1].after
        finally:
            stop.set()
        async with asyncio.timeout(RECOVERY_SECONDS):
            await load
    await stage.all_told()
    return await _report(stage, hits)


async def _hit(stage: Stage, fault: Fault, before: Window, quiet: float, seconds: float) -> Hit:
    start = _now()
    done = await fault.run(stage, fault.seconds or seconds)
    struck = Window(start, _now())
    recovered = await _recovered(stage, before.backlog)
    return Hit(fault, done, before, struck, recovered, await _window(stage, quiet))


async def _recovered(stage: Stage, usual: int) -> float | None:
    """Seconds until something ended again, and no more was open than usual."""
    began, first = time.monotonic(), None
    while time.monotonic() - began < RECOVERY_SECONDS:
        ended = await stage.ended()
        first = ended if first is None else first
        if ended is not None and first is not None and ended > first and stage.asked - ended <= usual:
            return time.monotonic() - began
        await asyncio.sleep(LOOK_SECONDS)
    return None


async def _window(stage: Stage, seconds: float) -> Window:
    start, most = _now(), 0
    while _now() < start + seconds * 1000:
        most = max(most, stage.asked - (await stage.ended() or 0))
        await asyncio.sleep(LOOK_SECONDS)
    return Window(start, _now(), most)


def _now() -> int:
    return int(time.time() * 1000)


async def _report(stage: Stage, hits: Sequence[Hit]) -> Report:
    ends = sorted(await stage.ends(), key=lambda pair: pair[1])
    evidence = await stage.evidence()
    told: dict[str, int] = {}
    for row in evidence.generations:
        end = "unknown" if row["error_code"] == "submit_unknown" else str(row["status"])
        told[end] = told.get(end, 0) + 1
    found = [each for each in verdict(evidence) if each.name != "database_locked"]
    name = "PostgreSQL" if stage.db.postgres else "SQLite"
    return Report(name, [_row(hit, ends) for hit in hits], stage.asked, told, stage.unexpected, found)


def _row(hit: Hit, ends: Sequence[tuple[int, int]]) -> Row:
    return Row(
        name=hit.fault.name,
        done=hit.done,
        recovered=hit.recovered,
        silence=_silence(hit.struck.start, hit.after.start, [ended for _, ended in ends]),
        before=hit.before.rate(ends),
        after=hit.after.rate(ends),
        latency_before=hit.before.latency(ends),
        latency_after=hit.after.latency(ends),
    )


def _silence(start: int, end: int, ends: Sequence[int]) -> float:
    """The longest time without a completion, in seconds."""
    marks = [start, *(ended for ended in ends if start <= ended < end), end]
    return max(later - sooner for sooner, later in pairwise(marks)) / 1000


HEADINGS = ("fault", "what was done", "longest silence s", "recovered after s", "per s before", "after", "share")
HEADINGS += ("median ms before", "after")


def table(reports: Sequence[Report]) -> str:
    """All of them as Markdown."""
    lines = []
    for report in reports:
        cells = [HEADINGS, *(_cells(row) for row in report.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
        padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        rule = " | ".join("-" * width for width in widths)
        ends = ", ".join(f"{count} {end}" for end, count in sorted(report.ends.items()))
        broken = ", ".join(sorted({each.name for each in report.violations})) or "none"
        lines += [f"{report.engine}: {report.orders} orders, {ends}; violations: {broken}", ""]
        lines += [*(f"| {line} |" for line in (padded[0], rule, *padded[1:])), ""]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    recovered = "never" if row.recovered is None else f"{row.recovered:.1f}"
    rates = (f"{row.before:.1f}", f"{row.after:.1f}", f"{row.share:.0%}")
    latencies = (f"{row.latency_before:.0f}", f"{row.latency_after:.0f}")
    return (row.name, row.done, f"{row.silence:.1f}", recovered, *rates, *latencies)


def wrong(report: Report, *, share: float = 0.95) -> list[str]:
    """What must not be, in words."""
    found = [f"{report.engine}: {each.name}: {each.generation} {each.words}" for each in report.violations]
    if report.unexpected:
        found.append(f"{report.engine}: the API answered {report.unexpected} instead of 503")
    for row in report.rows:
        if row.recovered is None:
            found.append(f"{report.engine}, {row.name}: not recovered after {RECOVERY_SECONDS:g} s")
        elif row.share < share:
            found.append(f"{report.engine}, {row.name}: {row.share:.0%} of the throughput before")
    return found
