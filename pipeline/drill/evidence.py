"""Evidence: what both sides and the logs say after a drill, read once and judged elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.db import Row, Tx
from pipeline.drill.fate import Blows
from pipeline.drill.plan import Order, Plan
from pipeline.drill.rules import Violation
from pipeline.lifecycle import GenerationStatus
from pipeline.media import InvalidMedia, probe

ZOMBIES = "zombies.jsonl"
"""Where a process that was stopped in the middle of a turn, on purpose, had written down which."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One order that the mock took: at work from `at` until before `until` (Unix seconds, None: for ever); `net` is
    what it charges, in micro-USD."""

    id: str
    prompt: str
    at: float
    until: float | None
    net: int


@dataclass(frozen=True, slots=True)
class Zombie:
    """A turn that outlived its lease: of which generation, and under which fence."""

    generation: str
    fence: int


@dataclass(slots=True)
class Logs:
    """What the processes told.

    Attributes:
        lost: turns whose decision was dropped, by job.
        starved: how often a process found that it had not renewed its leases in time.
        crashed: errors that we did not foresee, in words.
        locked: complaints of SQLite that others were writing.
    """

    lost: Counter[int] = field(default_factory=Counter)
    starved: int = 0
    crashed: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Evidence:
    """Everything that a verdict is made of.

    Attributes:
        taken: orders that were answered with 2xx, by the id of their generation.
        generations, submissions, endings: rows of the database; endings are the terminal events.
        charges: the mock's account.
        told: how often every terminal event came to the receiver, by generation and `webhook-id`.
        unverified: webhooks whose signature did not hold, in words.
        zombies: turns in which a process was stopped for longer than its lease, on purpose.
        fences: the fence of every generation's job, by the generation.
        ended_alone: processes that ended although nobody had hit them, in words.
        unplayable: what is wrong with the videos of completed generations, by generation.
        history: what the history checker found.
    """

    plan: Plan
    taken: Mapping[str, Order]
    generations: Sequence[Row]
    submissions: Sequence[Row]
    endings: Sequence[Row]
    charges: Sequence[Charge]
    told: Mapping[str, Mapping[str, int]]
    unverified: Sequence[str] = ()
    logs: Logs = field(default_factory=Logs)
    blows: Blows = field(default_factory=Blows)
    zombies: Sequence[Zombie] = ()
    fences: Mapping[str, int] = field(default_factory=dict)
    ended_alone: Sequence[str] = ()
    unplayable: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Violation] = ()
    sqlite: bool = True
    seconds: float = 0.0


def read_fences(tx: Tx) -> dict[str, int]:
    """The fence of every generation's job."""
    rows = tx.all("SELECT subject_id, fence FROM job WHERE kind = 'generation'")
    return {row["subject_id"]: int(row["fence"]) for row in rows}


def read_rows(tx: Tx) -> tuple[list[Row], list[Row], list[Row]]:
    """Generations, submissions and terminal events, all of them."""
    return (
        tx.all("SELECT id, prompt, status, error_code, run, video_key FROM generation"),
        tx.all("SELECT generation_id, token, outcome, operation_id, billed, cost_micros FROM submission"),
        tx.all("SELECT generation_id, run, type FROM webhook_event WHERE terminal = 1"),
    )


def read_charge(entry: Mapping[str, Any]) -> Charge:
    """An entry of the mock's account."""
    net = entry["charged_micros"] - entry["refunded_micros"]
    return Charge(entry["id"], entry["prompt"], entry["at"], entry["ends_at"], net)


def read_logs(files: Iterable[Path]) -> Logs:
    """What all processes told; what is no line of ours, such as one that a kill cut off, is passed over."""
    logs = Logs()
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                _note(logs, line)
    return logs


def _note(logs: Logs, line: str) -> None:
    if "database is locked" in line or "(sqlite3.OperationalError)" in line:
        logs.locked.append(line.strip()[:300])
    try:
        told = json.loads(line)
        event, level = told["event"], told["level"]
    except (ValueError, TypeError, KeyError):
        return
    if event == "turn.lost":
        logs.lost[int(told["job"])] += 1
    elif event == "worker.lease_lost":
        logs.starved += 1
    elif event in {"turn.crashed", "worker.failed", "request.failed"} and level == "error":
        logs.crashed.append(f"{event}: {told.get('error')}"[:300])


def unplayable(files: Path, generations: Iterable[Row]) -> dict[str, str]:
    """What is wrong with the videos that are kept under `files`, by generation; of each that is completed there must be
    one."""
    wrong = {}
    for row in generations:
        if row["status"] == GenerationStatus.COMPLETED:
            try:
                probe(files / row["video_key"])
            except (OSError, InvalidMedia) as error:
                wrong[row["id"]] = str(error)
    return wrong


def read_zombies(folder: Path) -> list[Zombie]:
    """The turns that were stopped on purpose."""
    path = folder / ZOMBIES
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [Zombie(line["generation"], int(line["fence"])) for line in lines]
