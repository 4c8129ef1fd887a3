"""Waiting for a generation with a display: a bar on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from pipeline.cli.base import CommandError
from pipeline.cli.client import PATH, Client
from pipeline.cli.explaining import tell_why
from pipeline.cli.follow import TERMINAL, follow
from pipeline.cli.words import DELIVERY, parse_time, span_text, stage_text, stage_times

__all__ = ["TERMINAL", "Bar", "Display", "Lines", "display", "time_left", "typical_seconds", "wait_for"]

STEP = 10
"""Percent between two lines of the plain display."""
SAMPLE = 20
"""Finished generations from which the typical duration is taken."""


class Display(Protocol):
    """Shows a generation while it runs."""

    def show(self, generation: Mapping[str, Any], left: float | None = None) -> None:
        """It stands like this now, and will take about `left` more seconds."""
        ...

    def note(self, text: str) -> None:
        """Something else to know, once."""
        ...


class Lines:
    """One line for each stage and every tenth of progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._last: tuple[str, int | None] | None = None

    def show(self, generation: Mapping[str, Any], left: float | None = None) -> None:
        """Print a line if there is news."""
        stage, progress = stage_text(generation), generation.get("progress")
        mark = (stage, None if progress is None else progress // STEP)
        if mark != self._last:
            self._last = mark
            percent = "" if progress is None else f"{progress:3} %"
            about = "" if left is None or generation["status"] in TERMINAL else f"about {span_text(left)} left"
            self.note("  ".join(filter(None, (f"{stage:<12}{percent}".rstrip(), about))))

    def note(self, text: str) -> None:
        """Print it with the time since the start."""
        line = f"{time.monotonic() - self._started:6.1f} s  {text}".rstrip()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """A live bar with stage, percent and elapsed time, and under way a line for each finished stage."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, generation: Mapping[str, Any], left: float | None = None) -> None:
        """Move the bar."""
        percent = generation.get("progress")
        running = left is not None and generation["status"] not in TERMINAL
        self._progress.update(
            self._task,
            description=f"{stage_text(generation):<12}",
            total=None if percent is None else 100,
            completed=percent,
            until=time.monotonic() + left if running and left is not None else None,
        )

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


class _TimeLeft(ProgressColumn):
    """Counts down between two changes."""

    def render(self, task: Task) -> Text:
        """The time until the task's field `until`, by the monotonic clock."""
        until = task.fields["until"]
        left = None if until is None else until - time.monotonic()
        return Text("" if left is None else "any moment" if left < 1 else f"about {span_text(left)} left")


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """The display that fits where the output goes."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, progress.add_task("", total=None, until=None))


async def typical_seconds(client: Client, generation: Mapping[str, Any]) -> float | None:
    """How long finished generations of the same provider and model took from their start; None if none is known."""
    same = {"status": "completed", "provider": generation.get("provider"), "model": generation.get("model")}
    try:
        done = (await client.get(PATH, {**same, "limit": SAMPLE}))["data"]
    except CommandError:
        return None
    times = [parse_time(g["completedAt"]) - parse_time(g["startedAt"]) for g in done if g.get("startedAt")]
    return median(times) if times else None


def time_left(generation: Mapping[str, Any], typical: float | None, now: float) -> float | None:
    """Seconds until the end, from the typical duration and how far it is; None while nothing can be said. Pure.

    `now` is Unix seconds by this machine's clock.
    """
    if typical is None or generation["status"] in TERMINAL:
        return None
    started = generation.get("startedAt")
    passed = 0.0 if started is None else max(0.0, now - parse_time(started))
    done = (generation.get("progress") or 0) / 100
    return min(typical, max(0.0, typical - passed, typical * (1 - done) if 0 < done < 1 else 0.0))


async def wait_for(client: Client, taken: dict[str, Any], shown: Display, *, every: float = 0.5) -> dict[str, Any]:
    """Follow it until it has ended; the service may restart meanwhile. Raises CommandError.

    Each finished stage is told with the time it took, from the timeline: some are too short to be seen. Why it is not
    started is told after a while.
    """
    why = asyncio.create_task(tell_why(client, taken["id"], shown.note))
    try:
        return await _until_ended(client, taken, shown, every)
    finally:
        why.cancel()
        await asyncio.gather(why, return_exceptions=True)


async def _until_ended(client: Client, taken: dict[str, Any], shown: Display, every: float) -> dict[str, Any]:
    told: set[str] = set()
    typical = await typical_seconds(client, taken)
    shown.show(taken, time_left(taken, typical, time.time()))
    generation = taken
    async for now in follow(client, taken["id"], every=every):
        if stage_text(now) != stage_text(generation):
            for stage, seconds in stage_times(await client.timeline(now["id"])).items():
                if stage not in told and stage != DELIVERY:
                    told.add(stage)
                    shown.note(f"{stage:<12} took {seconds:.2f} s")
        generation = now
        shown.show(generation, time_left(generation, typical, time.time()))
    return generation
