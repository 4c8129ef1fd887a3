"""What must be right before anything starts: good secrets, nothing exposed without a key, a webhook that can be sent,
tables that fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from pipeline import credentials
from pipeline.config import Settings, SettingsError
from pipeline.db import Database
from pipeline.db.migrate import migrate, require_head
from pipeline.keys import local_secret
from pipeline.outbound import BadUrl, BlockedAddress, guard_of
from webhooks.signing import InvalidSecret, new_secret, parse_secret

MIN_SECRET = 16


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets in use, with where those come from that nobody set."""

    signing: tuple[str, ...]
    webhook: tuple[str, ...]
    made_in: Path | None


def resolve_secrets(settings: Settings) -> Secrets:
    """The secrets from the settings; on a laptop, missing ones are made once and kept in `DATA_DIR/secrets`.

    Raises SettingsError where others could reach the service, or several machines would each make their own.
    """
    path = settings.data_dir / "secrets"
    missing = [
        name
        for name, value in (("SECRET_KEY", settings.secret_key), ("WEBHOOK_SECRET", settings.webhook_secret))
        if not value
    ]
    shared = settings.database_url is not None and not settings.database_url.startswith("sqlite")
    if missing and (shared or not settings.on_loopback):
        why = "the database is shared by several machines" if shared else f"HOST={settings.host} is not loopback"
        raise SettingsError(
            f"{' and '.join(missing)} must be set, since {why}: `openssl rand -base64 32` makes one"
            " (put `whsec_` in front of a WEBHOOK_SECRET)"
        )
    try:
        signing = plain(settings.secret_key) or (local_secret(path, "SECRET_KEY", lambda: os.urandom(32).hex()),)
        webhook = plain(settings.webhook_secret) or (
            local_secret(path, "WEBHOOK_SECRET", lambda: new_secret(os.urandom)),
        )
    except (OSError, ValueError) as error:
        raise SettingsError(f"{error}; restore the file, or move it away to have new secrets made") from None
    if not settings.on_loopback and any(len(secret) < MIN_SECRET for secret in signing):
        raise SettingsError(
            f"SECRET_KEY is shorter than {MIN_SECRET} characters: `openssl rand -base64 32` makes a good one"
        )
    for secret in webhook:
        try:
            parse_secret(secret)
        except InvalidSecret as error:
            raise SettingsError(f"WEBHOOK_SECRET: {error}") from None
    return Secrets(signing, webhook, path if missing else None)


def plain(values: Sequence[SecretStr]) -> tuple[str, ...]:
    """Secrets as they are, for those who use them."""
    return tuple(value.get_secret_value() for value in values)


def check_exposure(settings: Settings) -> None:
    """Refuse to be reachable from elsewhere without a key, or with a provider that only pretends.

    A key of the settings will do, or one that was made. Raises SettingsError, or DatabaseError when the database that
    would hold one cannot be read.
    """
    if settings.on_loopback:
        return
    if not settings.api_key and not _keys_were_made(settings):
        raise SettingsError(
            f"API_KEY must be set, since HOST={settings.host} lets others reach the service"
            " (or make a key: `dailies keys create NAME --scope admin`)"
        )
    if settings.provider == "mock" and not settings.allow_mock:
        raise SettingsError(
            "PROVIDER=mock makes test pictures and HOST is not loopback: choose a provider, or set ALLOW_MOCK=1"
        )


def check_webhook_url(settings: Settings) -> None:
    """Refuse a WEBHOOK_URL to which nothing could ever be sent. Raises SettingsError."""
    if settings.webhook_url is None or webhook_is_blocked(settings):
        return
    try:
        guard_of(settings).check_url(settings.webhook_url)
    except (BadUrl, BlockedAddress) as error:
        raise SettingsError(f"WEBHOOK_URL: {error}") from None


def webhook_is_blocked(settings: Settings) -> bool:
    """Whether WEBHOOK_URL is on loopback and the address guard will refuse it."""
    host = (urlsplit(settings.webhook_url or "").hostname or "").rstrip(".")
    try:
        addresses = [ip_address(host)]
    except ValueError:
        addresses = [ip_address("127.0.0.1"), ip_address("::1")] if host == "localhost" else []
    near = [address for address in addresses if address.is_loopback]
    return bool(near) and not any(address in network for address in near for network in settings.allowed_networks)


def _keys_were_made(settings: Settings) -> bool:
    db = Database(settings.database)
    try:
        prepare_schema(db)
        return db.read_now(credentials.exists)
    finally:
        db.close()


def prepare_schema(db: Database) -> None:
    """SQLite is migrated by whoever opens it; PostgreSQL by `dailies migrate` alone. Raises SchemaBehind."""
    if db.postgres:
        require_head(db.engine)
    else:
        migrate(db.engine)
