"""Running cases: each in a folder and a database of its own, through the code that `dailies drill` runs."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.drill.database import own_database
from pipeline.drill.run import PROGRAM, Stage, run_drill
from pipeline.drill.table import Result
from tests.chaos.cases import Case

ROOT = Path(__file__).parents[2]
SABOTAGED = (sys.executable, "-m", "tests.chaos.start")


def run_case(case: Case, server: str, tell: Callable[[str], None] = lambda _: None) -> Result:
    """Run it; `server` is the URL of a PostgreSQL server, for cases of that engine. The folder stays where something
    is not as it should be. Raises DrillError."""
    folder = Path(tempfile.mkdtemp(prefix="dailies-chaos-"))
    url = server if case.engine == "postgresql" else "sqlite:///any"
    with own_database(url, folder, f"chaos_{folder.name[-8:].lower()}") as database:
        stage = Stage(
            case.name,
            database,
            folder,
            program=SABOTAGED if case.extra else PROGRAM,
            extra={"PYTHONPATH": str(ROOT), **case.extra},
            tell=tell,
        )
        result = asyncio.run(run_drill(case.plan, stage))
    if as_expected(case, result):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        tell(f"the logs are in {folder}")
    return result


def as_expected(case: Case, result: Result) -> bool:
    """Whether what was found is what had to be found, by name, and nothing else. Pure."""
    found = {violation.name for violation in result.violations}
    return bool(found & case.expected) == bool(case.expected) and found <= case.expected | case.besides


def seeded(case: Case, seed: int) -> Case:
    """The same with another seed."""
    return replace(case, plan=replace(case.plan, seed=seed))
