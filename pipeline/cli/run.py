"""Commands that run the service: `serve`, `api`, `worker`, `work`, `migrate`, `import-sqlite`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.base import CommandError, run_loop, settings_or_exit


def _run(*, api: bool, worker: bool) -> None:
    settings = settings_or_exit()
    from pipeline.cli.service import run_service

    run_loop(run_service(settings, api=api, worker=worker), fast=True)


@click.command()
def serve() -> None:
    """Run the API and a worker in one process, on HOST:PORT.

    With PROVIDER=mock the mock provider runs beside them at MOCK_URL, unless one answers there already.
    The first Ctrl-C or SIGTERM stops gracefully: running turns get up to DRAIN_TIMEOUT. The second ends at once.

    Exit codes: 0 after a graceful stop, 2 if it cannot start.

    \b
    Example:
      dailies serve
      PORT=9000 LOG_FORMAT=json dailies serve
    """
    _run(api=True, worker=True)


@click.command()
def api() -> None:
    """Run the HTTP API alone, on HOST:PORT; workers run elsewhere on the same database.

    Exit codes: 0 after a graceful stop, 2 if it cannot start.

    \b
    Example:
      dailies api
      PORT=9000 dailies api
    """
    _run(api=True, worker=False)


@click.command()
def worker() -> None:
    """Run one worker without HTTP. Start as many as there is work for.

    Exit codes: 0 after a graceful stop, 2 if it cannot start.

    \b
    Example:
      dailies worker
    """
    _run(api=False, worker=True)


@click.command()
@click.option("--drain", is_flag=True, help="Exit once nothing is due.")
def work(drain: bool) -> None:
    """Take what is due, then exit: for cron.

    Prints how many turns it took. What comes due later, such as the next poll of a running generation, is left to the
    next call.

    \b
    Example:
      dailies work --drain
      * * * * *  cd /srv/dailies && .venv/bin/dailies work --drain      (a line of crontab)
    """
    if not drain:
        raise click.UsageError("say `dailies work --drain`, or `dailies worker` for a worker that stays")
    from pipeline.cli.service import drain_queue

    turns = run_loop(drain_queue(settings_or_exit()), fast=True)
    click.echo(f"{turns} {'turn' if turns == 1 else 'turns'}")


@click.command()
def migrate() -> None:
    """Bring the database's tables to this version. SQLite is migrated by every command that opens it.

    Exit codes: 0 when the schema fits, 2 if the database cannot be used.

    \b
    Example:
      dailies migrate
      DATABASE_URL=postgresql://dailies@db/dailies dailies migrate
    """
    from pipeline.cli.schema import guarded, migrate_schema

    settings = settings_or_exit()
    with guarded():
        url, before, after = migrate_schema(settings)
    if after is None:
        raise CommandError(f"{url}: no schema was made")
    done = "nothing to do" if before == after else f"from {before or 'empty'} to {after}"
    click.echo(f"{url}: schema {after}, {done}")


@click.command("import-sqlite")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Copy and check everything, then take it back.")
@click.option("--again", is_flag=True, help="Although the file was moved before: that import did not end well.")
def import_sqlite(file: Path, dry_run: bool, again: bool) -> None:
    """Move an installation from a SQLite FILE into the empty PostgreSQL of DATABASE_URL.

    Stop every process first, make a copy of the file, and run `dailies migrate` on the new database. SECRET_KEY and
    WEBHOOK_SECRET must hold what was used so far. All rows come over in one transaction, running and held work too;
    afterwards the old file refuses to be worked on. Videos and pictures are files and stay where they are.

    Exit codes: 0 when everything has arrived, 2 if nothing was moved.

    \b
    Example:
      dailies import-sqlite --dry-run data/dailies.db
      dailies import-sqlite data/dailies.db
    """
    from pipeline.cli.importing import import_file

    for line in import_file(settings_or_exit(), file, dry_run=dry_run, again=again):
        click.echo(line)


COMMANDS = (serve, api, worker, work, migrate, import_sqlite)
