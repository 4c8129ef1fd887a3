"""API keys: the only writer of `api_key`. A key is shown once, when it is made; what is kept is its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum

from pipeline.db import Row, Tx
from pipeline.ids import new_id

PREFIX = "dk_"
USED_MS = 60_000
"""The time of last use is written this often at most."""


class Scope(StrEnum):
    """What a key may do; `admin` may all."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


def digest(key: str) -> str:
    """The hash under which a key is kept: SHA-256 in hex. Keys are random enough to need no salt."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


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
    """Make a key: the row that is kept, and the key itself, which nobody can read again."""
    key = PREFIX + base64.urlsafe_b64encode(random(30)).decode()
    row = {
        "id": new_id("key", tx.now, random),
        "tenant_id": tenant,
        "name": name,
        "hint": key[:8],
        "hash": digest(key),
        "scopes": " ".join(scopes),
        "rate_per_minute": rate_per_minute,
        "created_at": tx.now,
        "expires_at": None if lifetime_ms is None else tx.now + lifetime_ms,
        "last_used_at": None,
        "revoked_at": None,
    }
    tx.insert("api_key", row)
    return row, key


def find(tx: Tx, hashed: str) -> Row | None:
    """A key that may be used just now, by its hash."""
    return tx.one(
        "SELECT * FROM api_key WHERE hash = :hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)",
        {"hash": hashed, "now": tx.now},
    )


def exists(tx: Tx) -> bool:
    """Whether any key was ever made: from then on nobody calls without one."""
    return tx.value("SELECT 1 FROM api_key LIMIT 1") is not None


def is_stale(row: Row, now_ms: int) -> bool:
    """Whether the time of last use is worth writing again."""
    return row["last_used_at"] is None or row["last_used_at"] < now_ms - USED_MS


def touch(tx: Tx, key_id: str) -> None:
    """Note that a key was used, at most once a minute."""
    tx.run(
        "UPDATE api_key SET last_used_at = :now WHERE id = :id AND (last_used_at IS NULL OR last_used_at < :before)",
        {"now": tx.now, "id": key_id, "before": tx.now - USED_MS},
    )


def revoke(tx: Tx, key_id: str) -> Row | None:
    """End a key; the row as it is then, or None if there is none."""
    tx.run("UPDATE api_key SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", {"now": tx.now, "id": key_id})
    return tx.one("SELECT * FROM api_key WHERE id = :id", {"id": key_id})


def listing(tx: Tx) -> list[Row]:
    """All keys, newest first, without their hashes."""
    rows = tx.all("SELECT * FROM api_key ORDER BY id DESC")
    return [{name: value for name, value in row.items() if name != "hash"} for row in rows]
