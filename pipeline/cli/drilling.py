"""Holding a drill for a person: what will happen, how it goes, what came of it."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from pipeline.cli.base import CommandError
from pipeline.cli.schema import guarded
from pipeline.config import Settings
from pipeline.drill.crew import DrillError
from pipeline.drill.database import own_database
from pipeline.drill.plan import FAULTS, Plan
from pipeline.drill.run import Stage, run_drill
from pipeline.drill.table import Result, complaints, table


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `dailies drill`."""

    generations: int
    kills: int
    workers: int
    recovery: str
    faults: bool
    seconds: float
    seed: int | None
    keep: bool


async def run_asked(settings: Settings, asked: Asked) -> int:
    """Hold it; returns the exit code. Raises CommandError where it cannot be held."""
    plan = _plan(asked)
    name = f"dailies_drill_{os.getpid()}_{plan.seed}"
    folder = settings.data_dir.absolute() / "drill" / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}") from None
    click.echo(explanation(settings, plan, name, folder))
    began, kept = time.monotonic(), asked.keep

    def tell(words: str) -> None:
        click.echo(f"  {time.monotonic() - began:6.1f} s  {words}", err=True)

    with guarded():
        try:
            with own_database(settings.database, folder, name, keep=lambda: kept) as database:
                result = await run_drill(plan, Stage(_engine(settings), database, folder, tell=tell))
                kept = kept or bool(result.violations)
        except DrillError as error:
            with suppress(OSError):
                folder.rmdir()  # with logs in it, it stays
            raise CommandError(str(error)) from None
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(report(result, asked, plan, folder if kept else None))
    return int(bool(result.violations))


def _plan(asked: Asked) -> Plan:
    return Plan(
        generations=asked.generations,
        seed=secrets.randbelow(1_000_000) if asked.seed is None else asked.seed,
        recovery=asked.recovery,
        faults=FAULTS if asked.faults else (),
        workers=asked.workers,
        blows=asked.kills,
        patience=asked.seconds,
    )


def _engine(settings: Settings) -> str:
    return "SQLite" if settings.database.startswith("sqlite") else "PostgreSQL"


def explanation(settings: Settings, plan: Plan, name: str, folder: Path) -> str:
    """What is about to happen, before it does. Pure."""
    where = f"the file {folder / 'drill.db'}" if _engine(settings) == "SQLite" else f"the database {name}"
    return (
        f"Drill {plan.seed}: {plan.generations} generations at a mock of its own, {plan.workers} workers and an API,"
        f" {plan.blows} times one of them is killed or frozen.\n"
        f"It uses {where}, made for it, and its logs are in {folder}. Nothing of yours is touched."
    )


def report(result: Result, asked: Asked, plan: Plan, folder: Path | None) -> str:
    """The table, what was wrong, and how to do the same again. Pure."""
    words = ["", table([result])]
    if result.violations:
        words += ["", f"{len(result.violations)} violations:", complaints(result)]
    done = result.evidence.blows.kills + result.evidence.blows.stops
    if done < plan.blows:
        words.append(
            f"\n{done} of {plan.blows} blows were struck: then the work had ended (more --generations last longer), or"
            " their process was frozen already"
        )
    if folder is not None:
        words.append(f"\nkept: {folder}")
    options = (
        f"--generations {plan.generations} --kills {plan.blows} --workers {plan.workers} --recovery {plan.recovery}"
    )
    words.append(f"\nagain: dailies drill {options}{' --faults' if asked.faults else ''} --seed {plan.seed}")
    words.append("every promise held" if not result.violations else "NOT EVERY PROMISE HELD")
    return "\n".join(words)
