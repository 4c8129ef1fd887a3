"""Waiting for a generation with a display: a bar on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from pipeline.cli.client import Client
from pipeline.cli.words import DELIVERY, stage_text, stage_times

TERMINAL = frozenset({"completed", "failed", "cancelled"})
PATIENCE = 600.0
"""Seconds for which a service that is down is waited for, once it has taken the request."""
STEP = 10
"""Percent between two lines of the plain display."""


class Display(Protocol):
    """Shows a generation while it runs."""

    def show(self, generation: Mapping[str, Any]) -> None:
        """It stands like this now."""
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

    def show(self, generation: Mapping[str, Any]) -> None:
        """Print a line if there is news."""
        stage, progress = stage_text(generation), generation.get("progress")
        mark = (stage, None if progress is None else progress // STEP)
        if mark != self._last:
            self._last = mark
            self.note(f"{stage:<12}" + ("" if progress is None else f"{progress:3} %"))

    def note(self, text: str) -> None:
        """Print it with the time since the start."""
        line = f"{time.monotonic() - self._started:6.1f} s  {text}".rstrip()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """A live bar with stage, percent and elapsed time, and under way a line for each finished stage."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, generation: Mapping[str, Any]) -> None:
        """Move the bar."""
        percent = generation.get("progress")
        self._progress.update(
            self._task,
            description=f"{stage_text(generation):<12}",
            total=None if percent is None else 100,
            completed=percent,
        )

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


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
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, progress.add_task("", total=None))


async def wait_for(client: Client, generation: dict[str, Any], shown: Display, *, every: float = 0.5) -> dict[str, Any]:
    """Look every so many seconds until it has ended; the service may restart meanwhile. Raises CommandError.

    Each finished stage is told with the time it took, from the timeline: some are too short to be seen.
    """
    told: set[str] = set()
    shown.show(generation)
    while generation["status"] not in TERMINAL:
        before = stage_text(generation)
        await asyncio.sleep(every)
        generation = await client.generation(generation["id"], patience=PATIENCE)
        if stage_text(generation) != before:
            for stage, seconds in stage_times(await client.timeline(generation["id"])).items():
                if stage not in told and stage != DELIVERY:
                    told.add(stage)
                    shown.note(f"{stage:<12} took {seconds:.2f} s")
        shown.show(generation)
    return generation
