"""API keys: the only writer of `api_key`. A key is shown once, when it is made; what is kept is its hash."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum

from pipeline.db import Row, Tx
from pipeline.ids import new_id

PREFIX = "dk_"
HINT = 8
"""Characters of a key by which people tell keys apart; 210 of its 240 random bits stay unknown."""

USED_MS = 60_000
"""The time of last use is written this often at most."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
RESERVED = frozenset({"inputs"})
"""Where files are kept, these stand in the place of a tenant."""

MAX_NAME = 100


class Scope(StrEnum):
    """What a key may do; `admin` may all."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


def digest(key: bytes) -> str:
    """The hash under which a key is kept: SHA-256 in hex. Keys are random enough to need no salt."""
    return hashlib.sha256(key).hexdigest()


def check_tenant(tenant: str) -> str:
    """The tenant's name. Raises ValueError when it cannot be one: it is a part of paths, on any file system."""
    if not _TENANT.fullmatch(tenant) or tenant in RESERVED:
        raise ValueError(
            f"{tenant!r} cannot be a tenant's name: it has 1 to 63 of the characters a-z, 0-9, - and _, begins with a"
            f" letter or digit, and is not {' or '.join(sorted(RESERVED))}"
        )
    return tenant


def check_name(name: str) -> str:
    """The key's name, for people. Raises ValueError when it is empty, long or not printable."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"a key's name has 1 to {MAX_NAME} printable characters")
    return name


def create(
    tx: Tx,
    *,
    name: str,
    tenant: str,
    scopes: Sequence[Scope],
    random: Callable[[int], bytes],
    lifetime_ms: int | None = None,
    rate_per_minute: int | None = None,
) -> tuple[Row, str]:
    """Make a key: the row that is kept, and the key itself, which nobody can read again.

    `rate_per_minute` None follows KEY_RATE_PER_MINUTE. Raises ValueError for a name or tenant that cannot be one.
    """
    key = PREFIX + base64.urlsafe_b64encode(random(30)).decode()
    row = {
        "id": new_id("key", tx.now, random),
        "tenant_id": check_tenant(tenant),
        "name": check_name(name),
        "hint": key[:HINT],
        "hash": digest(key.encode()),
        "scopes": " ".join(sorted(set(scopes))),
        "rate_per_minute": rate_per_minute,
        "created_at": tx.now,
        "expires_at": None if lifetime_ms is None else tx.now + lifetime_ms,
        "last_used_at": None,
        "revoked_at": None,
    }
    tx.insert("api_key", row)
    return row, key


def live(tx: Tx, hashes: Collection[str]) -> dict[str, Row]:
    """Those of some hashes whose key may be used just now, with its row."""
    if not hashes:
        return {}
    bound = {f"hash{n}": hashed for n, hashed in enumerate(hashes)}
    marks = ", ".join(f":{name}" for name in bound)
    rows = tx.all(f"SELECT * FROM api_key WHERE hash IN ({marks}) AND revoked_at IS NULL", bound)
    return {row["hash"]: row for row in rows if not has_ended(row, tx.now)}


def has_ended(row: Row, now_ms: int) -> bool:
    """Whether a key's time is over."""
    return row["expires_at"] is not None and bool(row["expires_at"] <= now_ms)


def scopes_of(row: Row) -> frozenset[Scope]:
    """What a key may do; words that only a newer version knows are left out."""
    return ALL_SCOPES & set(row["scopes"].split())


def state(row: Row, now_ms: int) -> str:
    """`active`, `expired` or `revoked`."""
    if row["revoked_at"] is not None:
        return "revoked"
    return "expired" if has_ended(row, now_ms) else "active"


def exists(tx: Tx) -> bool:
    """Whether any key was ever made: from then on nobody calls without one."""
    return tx.value("SELECT 1 FROM api_key LIMIT 1") is not None


def is_stale(row: Row, now_ms: int) -> bool:
    """Whether the time of last use is worth writing again."""
    return row["last_used_at"] is None or bool(row["last_used_at"] < now_ms - USED_MS)


def touch(tx: Tx, key_id: str) -> None:
    """Note that a key was used, at most once a minute."""
    tx.run(
        "UPDATE api_key SET last_used_at = :now WHERE id = :id AND (last_used_at IS NULL OR last_used_at < :before)",
        {"now": tx.now, "id": key_id, "before": tx.now - USED_MS},
    )


def revoke(tx: Tx, key_id: str) -> tuple[Row, bool] | None:
    """End a key: its row as it is then and whether that is new, or None if there is none."""
    changed = tx.run(
        "UPDATE api_key SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", {"now": tx.now, "id": key_id}
    )
    row = tx.one("SELECT * FROM api_key WHERE id = :id", {"id": key_id})
    return None if row is None else (_without_hash(row), changed > 0)


def name_of(tx: Tx, key_id: str) -> str | None:
    """What a key is called."""
    return tx.value("SELECT name FROM api_key WHERE id = :id", {"id": key_id})  # type: ignore[no-any-return] # text


def listing(tx: Tx) -> list[Row]:
    """All keys, newest first, without their hashes."""
    return [_without_hash(row) for row in tx.all("SELECT * FROM api_key ORDER BY id DESC")]


def _without_hash(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "hash"}
