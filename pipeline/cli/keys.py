"""`dailies keys`: API keys, made and ended in the database of the settings, so that nobody needs a key to make one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.cli.base import Failed, run_loop, settings_or_exit
from pipeline.cli.options import json_option

T = TypeVar("T")

_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
_HOUR_MS = 3_600_000


def _lifetime(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A callback for times such as 90d, in milliseconds."""
    if value is None:
        return None
    match = _LIFETIME.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no time such as 12h, 90d, 8w or 1y")
    return int(match[1]) * _HOURS[match[2]] * _HOUR_MS


def _checked(kind: str) -> Callable[[click.Context, click.Parameter, str], str]:
    """A callback that asks `credentials` whether a name can be taken."""

    def check(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
        from pipeline import credentials

        try:
            return credentials.check_tenant(value) if kind == "tenant" else credentials.check_name(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return check


@click.group()
def keys() -> None:
    """API keys: make them, list them, end them.

    Works on the database of the settings (DATABASE_URL, DATA_DIR), whether or not the service runs. A key belongs to a
    tenant and sees nothing of the others. As soon as the first is made, nobody calls without one.

    \b
    Example:
      dailies keys create web
      dailies keys create acme-web --tenant acme --expires 90d
      dailies keys list
      dailies keys revoke key_01a20c2379a472e79903854a2481a75a
    """


@click.command()
@click.argument("name", callback=_checked("name"))
@click.option("--tenant", default="default", show_default=True, callback=_checked("tenant"), help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["submit", "read", "admin"]),
    default=("submit", "read"),
    show_default=True,
    help="What it may do; may be repeated. admin: all that concerns its tenant.",
)
@click.option("--expires", "lifetime_ms", metavar="TIME", callback=_lifetime, help="Its end, such as 12h, 90d or 1y.")
@click.option(
    "--rate",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Requests per minute, per API process; else KEY_RATE_PER_MINUTE.",
)
@json_option
def create(name: str, as_json: bool, **asked: Any) -> None:
    """Make a key called NAME and print it. It is shown this once: what is kept is its hash.

    Standard output is the key alone; how to use it goes to standard error.

    Exit codes: 0 made, 2 if it cannot be made so, or the database cannot be used.

    \b
    Example:
      dailies keys create web
      dailies keys create acme --tenant acme --scope submit --scope read --expires 90d --rate 600
      dailies keys create ops --scope admin --json
    """
    from pipeline import credentials
    from pipeline.db import Row, Tx

    settings = settings_or_exit()
    asked["scopes"] = [credentials.Scope(scope) for scope in asked["scopes"]]
    asked["rate_per_minute"] = asked.pop("rate")

    def make(tx: Tx) -> tuple[Row, str, bool]:
        first = not credentials.exists(tx)
        return *credentials.create(tx, name=name, random=os.urandom, **asked), first

    row, key, first = _on_database(make)
    first = first and not settings.api_key
    if as_json:
        click.echo(json.dumps(_view(row, row["created_at"]) | {"key": key, "first": first}, indent=2))
    else:
        click.echo(key)
        click.echo(_how_to_use(row, settings.base_url, settings.key_rate_per_minute), err=True)
    if first:
        click.echo(
            "\nThis is the first key: from now on nobody calls without one, on this machine neither (a service that"
            "\nruns notices within 5 s). Commands take it with --key. Acts on the whole service need its API_KEY.",
            err=True,
        )


def _how_to_use(row: dict[str, Any], url: str, default_rate: int) -> str:
    shown = _view(row, row["created_at"])
    rate = row["rate_per_minute"] or default_rate
    lines = [
        f"{row['id']} ({row['name']}): tenant {row['tenant_id']}, scopes {' '.join(shown['scopes'])},"
        f" {f'{rate} requests per minute' if rate else 'no rate limit'}, ends {shown['expiresAt'] or 'never'}",
        "This is all you will see of the key: keep it now. Use it so:",
        f'  curl -H "Authorization: Bearer $KEY" {url}/api/generations',
    ]
    return "\n".join(lines)


@click.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List all keys, newest first: by hint, never themselves. The time of last use is true to a minute.

    Exit codes: 0, 2 if the database cannot be used.

    \b
    Example:
      dailies keys list
      dailies keys list --json
    """
    from pipeline import credentials

    rows, now = _on_database(lambda tx: (credentials.listing(tx), tx.now))
    views = [_view(row, now) for row in rows]
    if as_json:
        click.echo(json.dumps(views, indent=2))
    elif views:
        click.echo(_table(views))
    else:
        click.echo("there are no keys; `dailies keys create NAME` makes one", err=True)


@click.command()
@click.argument("key_id", metavar="ID")
@json_option
def revoke(key_id: str, as_json: bool) -> None:
    """End the key with this ID (key_...), for good. A service that runs notices within 5 s.

    Exit codes: 0 when it is revoked, also if it was before; 1 if there is none such; 2 if the database cannot be used.

    \b
    Example:
      dailies keys revoke key_01a20c2379a472e79903854a2481a75a
    """
    from pipeline import credentials

    found = _on_database(lambda tx: credentials.revoke(tx, key_id))
    if found is None:
        raise Failed(f"there is no key {key_id!r}; `dailies keys list` shows the ids")
    row, changed = found
    if as_json:
        click.echo(json.dumps(_view(row, row["revoked_at"]), indent=2))
        return
    done = "is revoked: services notice within 5 s" if changed else "was revoked before"
    click.echo(f"{row['id']} ({row['name']}, {row['hint']}...) {done}")


def _on_database(unit: Callable[[Any], T]) -> T:
    """Run a unit on the database of the settings. Raises CommandError."""
    from pipeline.cli.schema import guarded
    from pipeline.db import Database
    from pipeline.safety import prepare_schema

    settings = settings_or_exit()
    with guarded():
        db = Database(settings.database)
        try:
            prepare_schema(db)
            return run_loop(db.write(unit))
        finally:
            db.close()


def _view(row: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """A key as it may be shown."""
    from pipeline import credentials
    from pipeline.schemas import iso

    return {
        "id": row["id"],
        "name": row["name"],
        "hint": row["hint"],
        "tenant": row["tenant_id"],
        "scopes": row["scopes"].split(),
        "ratePerMinute": row["rate_per_minute"],
        "state": credentials.state(row, now_ms),
        "createdAt": iso(row["created_at"]),
        "lastUsedAt": iso(row["last_used_at"]),
        "expiresAt": iso(row["expires_at"]),
        "revokedAt": iso(row["revoked_at"]),
    }


def _table(views: list[dict[str, Any]]) -> str:
    titles = ("ID", "NAME", "KEY", "TENANT", "SCOPES", "LAST USED", "ENDS", "STATE")
    rows = [
        (
            view["id"],
            view["name"],
            f"{view['hint']}...",
            view["tenant"],
            " ".join(view["scopes"]),
            (view["lastUsedAt"] or "never")[:16],
            (view["expiresAt"] or "never")[:16],
            view["state"],
        )
        for view in views
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in (titles, *rows)]
    return "\n".join(line.rstrip() for line in lines)


for _command in (create, list_keys, revoke):
    keys.add_command(_command)

COMMANDS = (keys,)
