"""`dailies drill`: processes of this version are killed on the server in use, and nothing may be lost or paid twice."""

from __future__ import annotations

import click

from pipeline.cli.base import CommandError, run_loop, settings_or_exit

RECOVERIES = ("key", "lookup", "callback", "none")


@click.command()
@click.option("--generations", type=click.IntRange(1, 20_000), default=100, show_default=True, help="How many to make.")
@click.option(
    "--kills", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Blows; a third are stops."
)
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True, help="Beside one API.")
@click.option("--recovery", type=click.Choice(RECOVERIES), default="key", show_default=True, help="See below.")
@click.option("--faults", is_flag=True, help="The mock fails now and then, too.")
@click.option(
    "--seconds", type=click.FloatRange(10), default=300.0, show_default=True, help="It fails if not over then."
)
@click.option("--seed", type=int, help="What chance decides follows from it; printed, to repeat a drill.")
@click.option("--keep", is_flag=True, help="Keep its database and its files; they are kept, too, if it fails.")
def drill(
    generations: int,
    kills: int,
    workers: int,
    recovery: str,
    faults: bool,
    seconds: float,
    seed: int | None,
    keep: bool,
) -> None:
    """Kill and stop processes under load, and prove that nothing was paid twice, lost or left without an answer.

    It starts an API, workers, a mock provider and a receiver of its own, asks for videos of play money, and kills
    (SIGKILL) or freezes (SIGSTOP) one process after the other. Then the mock's account, the ledger, the webhooks and
    the history of every generation are compared. It needs PROVIDER=mock: run it where you stage, not where you sell.

    Of the settings only DATABASE_URL and DATA_DIR are used: on that PostgreSQL server a database of its own is made
    and dropped again (the user needs CREATEDB), or a SQLite file under DATA_DIR/drill. What you have there is not
    touched, and no provider, bucket or receiver of yours is asked for anything.

    --recovery says what the mock offers where the outcome of a paid call is unknown; with `none` some generations fail
    with submit_unknown, which is what they should do.

    Exit codes: 0 if every promise held, 1 if one did not, 2 if the drill could not be held.

    \b
    Example:
      dailies drill
      dailies drill --generations 1000 --kills 100 --workers 4
      dailies drill --recovery none --faults --seed 7
    """
    settings = settings_or_exit()
    if settings.provider != "mock":
        raise CommandError(
            "a drill runs where PROVIDER=mock: it kills processes in the middle of paid calls, and play money is all"
            f" that may be risked (PROVIDER={settings.provider or 'is not set'})"
        )
    from pipeline.cli.drilling import Asked, run_asked

    asked = Asked(generations, kills, workers, recovery, faults, seconds, seed, keep)
    raise SystemExit(run_loop(run_asked(settings, asked)))
