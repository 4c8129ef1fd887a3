"""Options that many commands have: which service, printed how, for what."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])

_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Where:
    """What the options say about a service: its URL and key, if given, and for how many seconds an answer is sought."""

    url: str | None
    key: str | None
    retry_for: float


def service_options(command: F) -> F:
    """Where the service is, and who we are there: `service`, a Where."""

    @wraps(command)
    def packed(*args: Any, url: str | None, key: str | None, retry_for: float, **others: Any) -> Any:
        return command(*args, service=Where(url, key, retry_for), **others)

    options = (
        click.option(
            "--url",
            envvar="DAILIES_URL",
            metavar="URL",
            help="The service; else $DAILIES_URL, else http://localhost:PORT.",
        ),
        click.option(
            "--key",
            envvar="DAILIES_KEY",
            metavar="KEY",
            help="A key of the service; else $DAILIES_KEY, else the first of API_KEY.",
        ),
        click.option(
            "--retry-for",
            type=click.FloatRange(min=0.1),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to go on when the service does not answer.",
        ),
    )
    for option in reversed(options):
        option(packed)
    return cast("F", packed)


def json_option(command: F) -> F:
    """`as_json`: for programs instead of people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def page_options(command: F) -> F:
    """`limit` and `every`: how much of a list."""
    limit = click.option(
        "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="At most so many."
    )
    return limit(click.option("--all", "every", is_flag=True, help="All of them, page by page.")(command))


def moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A callback for times, written as in the API or as an age (`90s 15m 2h 3d 1w`): RFC 3339 in UTC."""
    if value is None:
        return None
    try:
        if match := _AGE.fullmatch(value):
            return _iso(datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: float(match[1])}))
        at = datetime.fromisoformat(value)
        return _iso(at if at.tzinfo else at.astimezone())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is neither an age (90s, 15m, 2h, 3d) nor a time (2026-11-22T14:00:00Z)"
        ) from None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
