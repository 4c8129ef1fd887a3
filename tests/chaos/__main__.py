"""`make chaos`: the long form, all saboteurs, the innocents under the same blows, the known hole. Prints a table and
exits with 1 if anything is not as it must be."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from pipeline.drill.crew import DrillError
from pipeline.drill.table import Result, complaints, table
from tests.chaos.cases import Case, innocents, known_hole, long_form, saboteurs
from tests.chaos.running import as_expected, run_case, seeded
from tests.pipeline.engines import start_postgres


@click.command()
@click.option("--generations", default=1040, show_default=True, help="Of each of the ten runs of the long form.")
@click.option("--seed", default=20261124, show_default=True, help="What chance decides follows from it.")
@click.option("--only", default="", help="Only the runs whose name contains this.")
@click.option("--part", type=click.Choice(["all", "long", "saboteurs"]), default="all", show_default=True)
def main(generations: int, seed: int, only: str, part: str) -> None:
    """Run it."""
    long = long_form(generations, seed) if part != "saboteurs" else []
    short = [*innocents(), *saboteurs(), *known_hole()] if part != "long" else []
    cases = [case for case in [*long, *(seeded(case, seed) for case in short)] if only in case.name]
    began = time.monotonic()
    server = start_postgres()
    try:
        done = [_run(case, server.url("postgres")) for case in cases]
    finally:
        server.stop()
    results = [(case, result) for case, result in done if result is not None]
    click.echo("\n" + table([result for _, result in results]))
    total = sum(len(result.evidence.generations) for _, result in results)
    click.echo(f"\n{total} generations in {len(cases)} runs, {time.monotonic() - began:.0f} s, seed {seed}")
    sys.exit(_judge(done))


def _run(case: Case, server: str) -> tuple[Case, Result | None]:
    click.echo(f"{case.name} ...", err=True)
    try:
        result = run_case(case, server, lambda words: click.echo(f"    {words}", err=True))
    except DrillError as error:
        click.echo(f"  {error}", err=True)
        return case, None
    click.echo(table([result]).splitlines()[-1], err=True)
    if not as_expected(case, result):
        click.echo(complaints(result), err=True)
    return case, result


def _judge(done: Sequence[tuple[Case, Result | None]]) -> int:
    """Say what is not as it must be; the exit code."""
    bad = [(case, result) for case, result in done if result is None or not as_expected(case, result)]
    for case, result in bad:
        wanted = f"{' or '.join(sorted(case.expected))} had to be found" if case.expected else "nothing may be found"
        click.echo(
            f"NOT AS IT MUST BE: {case.name}: {wanted}\n{'it was not held' if result is None else complaints(result)}"
        )
        click.echo(f"  repeat it: make chaos CHAOS='--only \"{case.name}\" --seed {case.plan.seed}'")
    click.echo("as it must be" if not bad else f"{len(bad)} runs are not as they must be")
    return int(bool(bad))


if __name__ == "__main__":
    main()
