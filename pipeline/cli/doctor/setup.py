"""Checks of the settings themselves: names, secrets, and who can reach the service. They ask nobody."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.cli.effective import Given, Unknown, unknown
from pipeline.config import LOOPBACK_HOSTS, Settings, SettingsError
from pipeline.safety import check_exposure, check_webhook_url, resolve_secrets
from webhooks.events import validate_filter

MAKE_ONE = "`openssl rand -base64 32` makes a good one"
SHORTEST = 16
FEWEST = 8
"""Different characters that a random text of SHORTEST has practically always (base64: all but 1 in 10^8)."""
PLACEHOLDERS = ("change", "secret", "passw", "example", "your-", "your_", "12345", "xxxxx", "dummy", "qwert")
KNOWN_SECRETS = frozenset({"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"})
"""Examples of documents: standardwebhooks.com and its libraries' README files."""
WIDEST = {4: 8, 6: 7}
"""Shortest prefix of a network of one's own: 10.0.0.0/8 and fc00::/7 are the widest private ones."""
METADATA = ip_address("169.254.169.254")
"""Where clouds hand out their machines' credentials."""


def settings_checks(given: Given, settings: Settings | None, mistakes: str = "") -> Iterator[Check]:
    """Whether the settings can be read, and whether every variable that looks like one is one."""
    if settings is None:
        for line in mistakes.splitlines():
            yield failure("settings", line, "correct it in the environment or in .env; `.env.example` explains each")
    else:
        counts = [sum(field in names for field in Settings.model_fields) for names in (given.file, given.environment)]
        yield ok("settings", f"{counts[0]} set in .env, {counts[1]} in the environment, the rest are defaults")
        yield from _sense(settings)
    for variable in unknown(given):
        yield _unread(variable)
    yield from _open_file(Path(".env"), given)


def _unread(variable: Unknown) -> Check:
    what = f"{variable.name} ({variable.source}) is no setting, so that nobody reads it"
    if variable.nearest:
        return warning("settings", what, f"did you mean {variable.nearest}?")
    return warning("settings", what, "remove it; `dailies config` lists all that there are")


def _open_file(path: Path, given: Given) -> Iterator[Check]:
    """A `.env` with secrets that every user of the machine may read."""
    secrets = [
        name for name in ("api_key", "secret_key", "webhook_secret", "r2_secret_access_key") if given.file.get(name)
    ]
    if secrets and path.is_file() and path.stat().st_mode & stat.S_IROTH:
        yield warning(
            "settings", f"{path} holds secrets and every user of this machine may read it", f"chmod 600 {path}"
        )


def _sense(settings: Settings) -> Iterator[Check]:
    try:
        validate_filter(settings.webhook_events)
    except ValueError as error:
        yield failure("settings", f"WEBHOOK_EVENTS: {error}", "correct WEBHOOK_EVENTS")
    try:
        check_webhook_url(settings)
    except SettingsError as error:
        yield failure("settings", str(error), "correct WEBHOOK_URL, or allow its network in ALLOWED_NETWORKS")
    if settings.spool_bytes < settings.max_video_bytes:
        yield failure(
            "settings",
            f"SPOOL_BYTES={settings.spool_bytes} is below MAX_VIDEO_BYTES={settings.max_video_bytes}:"
            " the largest videos never fit",
            "raise SPOOL_BYTES or lower MAX_VIDEO_BYTES",
        )
    if settings.r2_public_url and not settings.uses_r2:
        yield failure(
            "settings",
            "R2_PUBLIC_URL is set and R2 is not: links would name a bucket that holds nothing",
            "set the other R2_ variables, or remove R2_PUBLIC_URL",
        )


def secret_checks(settings: Settings) -> Iterator[Check]:
    """Whether secrets are there, readable, hard to guess, and each used for one purpose."""
    try:
        secrets = resolve_secrets(settings)
    except SettingsError as error:
        mend = f"set what is named; {MAKE_ONE}, with `whsec_` in front of it for WEBHOOK_SECRET"
        yield failure("secrets", str(error), mend)
        return
    keys = tuple(key.get_secret_value() for key in settings.api_key)
    weak = list(_weak(settings, {"API_KEY": keys, "SECRET_KEY": secrets.signing, "WEBHOOK_SECRET": secrets.webhook}))
    if secrets.made_in is not None and secrets.made_in.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        weak.append(
            failure(
                "secrets", f"{secrets.made_in} may be read by others", f"chmod 600 {secrets.made_in}, and make new ones"
            )
        )
    yield from weak or [ok("secrets", "SECRET_KEY and WEBHOOK_SECRET are there and hard to guess")]


def _weak(settings: Settings, secrets: dict[str, tuple[str, ...]]) -> Iterator[Check]:
    judge = warning if is_near(settings) else failure
    for name, values in secrets.items():
        for reason in filter(None, map(weakness, values)):
            yield judge("secrets", f"{name} {reason}", f"take a random one: {MAKE_ONE}")
    owners: dict[str, set[str]] = {}
    for name, values in secrets.items():
        for value in values:
            owners.setdefault(value, set()).add(name)
    for names in owners.values():
        if len(names) > 1:
            yield judge("secrets", f"{' and '.join(sorted(names))} are the same", "take another random one for each")


def weakness(secret: str) -> str | None:
    """Why a secret could be guessed, in words that follow its name; None if nothing speaks for it. Pure."""
    if secret in KNOWN_SECRETS:
        return "is an example from a document, which everyone knows"
    text = secret
    if secret.startswith("whsec_"):
        with suppress(ValueError):
            text = base64.b64decode(secret.removeprefix("whsec_")).decode("latin-1")
    if len(text) < SHORTEST:
        return f"is shorter than {SHORTEST} characters"
    if len(set(text)) < FEWEST:
        return "repeats a few characters"
    lowered = text.lower()
    return next((f"looks like a placeholder ({word}...)" for word in PLACEHOLDERS if word in lowered), None)


def is_near(settings: Settings) -> bool:
    """Whether only this machine can reach the service, by HOST and by what PUBLIC_URL says."""
    return settings.on_loopback and (settings.public_url is None or is_loopback(settings.public_url))


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine itself."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host in LOOPBACK_HOSTS


def exposure_checks(settings: Settings, *, keys_exist: bool) -> Iterator[Check]:
    """Who can reach the service, and what it would do for them. `keys_exist`: keys were made by `dailies keys`."""
    found = [*_reachable(settings, keys_exist), *_links(settings), *_networks(settings)]
    who = "this machine only" if is_near(settings) else "others"
    guard = "with a key" if settings.api_key or keys_exist else "without a key"
    yield from found or [ok("exposure", f"{who} can reach the service, {guard}")]


def _reachable(settings: Settings, keys_exist: bool) -> Iterator[Check]:
    try:
        check_exposure(settings)
    except SettingsError as error:
        yield failure("exposure", str(error), "set what is named, or HOST=127.0.0.1")
        return
    if settings.on_loopback and not is_near(settings) and not (settings.api_key or keys_exist):
        yield failure(
            "exposure",
            f"PUBLIC_URL={settings.public_url} lets others in and no key is asked for: anyone can order videos",
            "set API_KEY, or make a key with `dailies keys create`",
        )


def _links(settings: Settings) -> Iterator[Check]:
    public = settings.public_url
    if public is not None and public.startswith("http://") and not is_loopback(public):
        yield warning(
            "exposure", f"PUBLIC_URL={public} is not encrypted: keys and links can be read on the way", "use https://"
        )
    far = settings.webhook_url is not None and not is_loopback(settings.webhook_url)
    if public is None and (not settings.on_loopback or far):
        yield warning(
            "exposure",
            f"PUBLIC_URL is not set: webhooks carry links to {settings.base_url}, which work on this machine only",
            "set PUBLIC_URL to how others reach this service",
        )


def _networks(settings: Settings) -> Iterator[Check]:
    for network in settings.allowed_networks:
        wide = network.prefixlen < WIDEST[network.version]
        if wide or METADATA in network:
            what = "nearly every address" if wide else "where clouds hand out this machine's credentials"
            yield failure(
                "exposure",
                f"ALLOWED_NETWORKS={network} covers {what}: whoever chooses a URL can make us call there",
                "name the smallest network that holds your receiver, such as 10.1.2.0/24",
            )
