"""Commands for the machine itself, which read the settings and the database: `prune`, `config`, `doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from pipeline.cli.base import CommandError, Failed, run_loop, settings_or_exit
from pipeline.cli.options import json_option

CHECKS = (
    *("settings", "secrets", "exposure", "disk", "database", "worker", "storage", "provider", "webhook", "address"),
    *("clock", "history"),
)


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would go, and leave it.")
@click.option("--orphans", is_flag=True, help="Instead: files that no row owns are deleted, lost videos marked.")
@click.option("--force", is_flag=True, help="With --orphans: although more than half looks wrong.")
@json_option
def prune(dry_run: bool, orphans: bool, force: bool, as_json: bool) -> None:
    """Let go now of what has been kept for its time (the KEEP_ settings), and count it.

    Workers do this every hour by themselves. Orphans are left after a crash at the wrong moment or an older backup;
    nobody deletes them by himself: look with --orphans --dry-run first.

    Exit codes: 0, 1 if something could not be done, 2 if the service's parts cannot be used.

    \b
    Example:
      dailies prune --dry-run
      dailies prune --orphans --dry-run
    """
    if force and not orphans:
        raise click.UsageError("--force goes with --orphans")
    from pipeline.cli.pruning import prune_now, sweep_now

    settings = settings_or_exit()
    work = sweep_now(settings, dry_run=dry_run, force=force) if orphans else prune_now(settings, dry_run=dry_run)
    done = run_loop(work)
    click.echo(done.json if as_json else done.text)
    if done.problem:
        raise Failed(done.problem)


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show the settings in force, each with where it came from: default, .env or environment.

    Secrets are hidden. Variables that look like settings and are none are named on standard error.

    Exit codes: 0, 2 if the settings cannot be used.

    \b
    Example:
      dailies config
      dailies config --json
    """
    from pipeline.cli.effective import effective, read_given, unknown
    from pipeline.cli.words import json_text

    given = read_given()
    strangers = unknown(given)
    for stranger in strangers:
        hint = f"; did you mean {stranger.nearest}?" if stranger.nearest else ""
        click.echo(f"{stranger.name} ({stranger.source}) is no setting{hint}", err=True)
    settings = effective(settings_or_exit(), given)
    if as_json:
        body = {"object": "settings", "data": [*map(asdict, settings)], "unknown": [*map(asdict, strangers)]}
        click.echo(json_text(body))
        return
    width = max(len(setting.name) for setting in settings)
    for setting in settings:
        click.echo(f"{setting.name:<{width}}  {setting.source:<11}  {setting.value or ''}".rstrip())


@click.command()
@click.option("--skip", multiple=True, type=click.Choice(CHECKS), help="Leave a check out; may be repeated.")
@click.option("--history", is_flag=True, help="Read the history of every generation, too.")
@json_option
def doctor(skip: tuple[str, ...], history: bool, as_json: bool) -> None:
    """Look at everything that a working service needs, and say what would mend it.

    Settings, secrets, who can reach the service, disk, database, worker, storage (a small object is written, read and
    deleted), provider, webhook (a signed `webhook.test` event is sent to WEBHOOK_URL, and one with a wrong signature),
    the service under PUBLIC_URL, clocks. Run it where the service runs, in its directory. Nothing is paid.

    With --history it reads what every generation left behind and says where something is that must not be: turns out of
    order, a run that ended twice, two paid calls at once, work that nobody carries on. That changes nothing.

    Exit codes: 0 if nothing is broken (warnings may be there), 1 if something is.

    \b
    Example:
      dailies doctor
      dailies doctor --skip webhook --json
      dailies doctor --history
    """
    from pipeline.cli.doctor import Verdict, examine, report_text
    from pipeline.cli.words import json_text

    checks = run_loop(examine(skip=skip, history=history))
    failed = any(check.verdict is Verdict.FAILURE for check in checks)
    if as_json:
        click.echo(json_text({"object": "checkup", "healthy": not failed, "data": [*map(asdict, checks)]}))
    else:
        click.echo(report_text(checks))
    if failed:
        raise SystemExit(1)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes commands and options in a SHELL.

    \b
    Example:
      dailies completion bash > ~/.local/share/bash-completion/completions/dailies
      dailies completion zsh > ~/.zfunc/_dailies      (a directory of $fpath)
      dailies completion fish > ~/.config/fish/completions/dailies.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise CommandError(f"click knows no completion for {shell}")
    click.echo(made(ctx.find_root().command, {}, "dailies", "_DAILIES_COMPLETE").source())


COMMANDS = (doctor, config, prune)
