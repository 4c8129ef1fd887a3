"""Settings as they are in force: each with where it came from, secrets hidden, and names that were meant to be ours."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from pipeline.config import Settings

DEFAULT, FILE, ENVIRONMENT = "default", ".env", "environment"
HIDDEN = "(hidden)"
NOT_SETTINGS = frozenset({"DAILIES_URL", "DAILIES_KEY"})
"""Variables that the command reads and the settings do not hold."""
_FOREIGN_FAMILIES = ("R2_", "WEBHOOK_", "MOCK_", "SLOTS_", "DAILIES_")
"""Nobody else's variables begin like this, so that one in the environment is a mistake."""
_NEAR = {ENVIRONMENT: 0.85, FILE: 0.7}
"""How like a setting's name a foreign one must be, by difflib's ratio: the environment is full of others' names."""
_UNQUOTED = re.compile(r"(postgres[a-z+]*://[^:/@?#]*):(?=[^@]*[/?#@][^@]*@|[^@]*@[^@]*@).*@(.*)", re.DOTALL)
"""A database whose password holds what a URL cannot: where it ends is not to be told from its parts."""
_QUERY_SECRET = re.compile(r"((?:password|token|secret|key)=)[^&]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, its value as text (None: not set), whence it came, and whether the value is hidden."""

    name: str
    value: str | None
    source: str
    secret: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variable that looks like ours and is read by nobody."""

    name: str
    source: str
    nearest: str | None


@dataclass(frozen=True, slots=True)
class Given:
    """What was set, names in small letters: by the environment and by `.env`."""

    environment: Mapping[str, str | None]
    file: Mapping[str, str | None]

    def source(self, field: str) -> str:
        """Where a field's value came from; the environment comes first."""
        return ENVIRONMENT if field in self.environment else FILE if field in self.file else DEFAULT


def read_given() -> Given:
    """What the environment and `.env` of the working directory hold."""
    return Given(EnvSettingsSource(Settings).env_vars, DotEnvSettingsSource(Settings).env_vars)


def effective(settings: Settings, given: Given) -> list[Setting]:
    """Every setting, in the order of their definition."""
    return [
        Setting(name.upper(), shown(getattr(settings, name), secret), given.source(name), secret)
        for name, field in type(settings).model_fields.items()
        for secret in [_holds_secret(field.annotation)]
    ]


def shown(value: Any, secret: bool) -> str | None:
    """A value as it would be written in `.env`, secrets and passwords hidden; None for nothing."""
    if value is None or value == ():
        return None
    if secret:
        return ",".join([HIDDEN] * (len(value) if isinstance(value, tuple) else 1))
    if isinstance(value, tuple):
        return ",".join(str(shown(part, False)) for part in value)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.15g}"
    text = str(value)
    return without_password(text) if "://" in text and not isinstance(value, Path) else text


def without_password(url: str) -> str:
    """A URL whose password, and whatever in its query is named like a secret, is hidden."""
    if (broken := _UNQUOTED.match(url)) is not None:
        return f"{broken[1]}:{HIDDEN}@{broken[2]}"
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        user = f"{parts.username}:{HIDDEN}@" if parts.password else parts.netloc[: len(parts.netloc) - len(host)]
    except ValueError:
        return HIDDEN
    query = _QUERY_SECRET.sub(rf"\1{HIDDEN}", parts.query)
    # urlunsplit would drop the empty host of sqlite:///path
    return f"{parts.scheme}://{user}{host}{urlunsplit(('', '', parts.path, query, parts.fragment))}"


def unknown(given: Given, known: Iterable[str] = Settings.model_fields) -> list[Unknown]:
    """The variables that look like ours and are none of the `known` fields, those of `.env` last."""
    names = [name.upper() for name in known]
    found: dict[str, Unknown] = {}
    for source, variables in ((ENVIRONMENT, given.environment), (FILE, given.file)):
        for name in sorted({name.upper() for name in variables} - {*names, *NOT_SETTINGS, *found}):
            nearest = _nearest(name, names, _NEAR[source])
            if nearest or name.startswith(_FOREIGN_FAMILIES):
                found[name] = Unknown(name, source, nearest or _nearest(name, names, 0.5))
    return list(found.values())


def _nearest(name: str, names: list[str], least: float) -> str | None:
    bare = name.removeprefix("DAILIES_")
    return bare if bare in names else next(iter(get_close_matches(bare, names, n=1, cutoff=least)), None)


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, typing.get_args(annotation)))
