"""Keys as they are kept, on both engines: hashed, with an end, a time of last use, and a state."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pipeline import credentials
from pipeline.credentials import Scope, check_name, check_tenant, digest
from pipeline.db import Database, Row, Tx
from tests.pipeline.engines import Time

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


async def make(db: Database, **values: Any) -> tuple[Row, str]:
    asked = {"name": "web", "tenant": "acme", "scopes": [Scope.READ], "random": os.urandom} | values
    return await db.write(lambda tx: credentials.create(tx, **asked))


async def is_live(db: Database, key: str) -> bool:
    found = await db.read(lambda tx: credentials.live(tx, [digest(key.encode()), digest(b"another")]))
    return list(found) == [digest(key.encode())]


async def test_a_key_is_kept_as_its_hash_alone(db: Database) -> None:
    row, key = await make(db, scopes=[Scope.SUBMIT, Scope.READ, Scope.READ])
    assert key.startswith("dk_")
    assert len(key) == 43
    kept = await db.read(lambda tx: tx.one("SELECT * FROM api_key"))
    assert kept == row
    assert key not in str(kept)
    assert kept["hint"] == key[:8]
    assert kept["scopes"] == "read submit"
    listed = await db.read(credentials.listing)
    assert listed == [{name: value for name, value in row.items() if name != "hash"}]
    assert await is_live(db, key)


async def test_keys_are_different_and_made_of_thirty_random_bytes(db: Database) -> None:
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    keys = {(await make(db, random=random))[1] for _ in range(5)}
    assert len(keys) == 5
    assert asked.count(30) == 5


async def test_a_key_ends_when_its_time_is_over(db: Database, time: Time) -> None:
    row, key = await make(db, lifetime_ms=90 * DAY_MS)
    assert row["expires_at"] - row["created_at"] == 90 * DAY_MS
    time.passes(90 * 86_400 - 5)
    assert await is_live(db, key)
    time.passes(5)
    assert not await is_live(db, key)
    (listed,) = await db.read(credentials.listing)
    assert credentials.state(listed, row["expires_at"] - 1) == "active"
    assert credentials.state(listed, row["expires_at"]) == "expired"


async def test_revoking_ends_a_key_once(db: Database, time: Time) -> None:
    row, key = await make(db)
    time.passes(10)
    revoked, new = await db.write(lambda tx: credentials.revoke(tx, row["id"])) or ({}, None)
    assert new is True
    assert "hash" not in revoked
    assert not await is_live(db, key)
    time.passes(10)
    again, new = await db.write(lambda tx: credentials.revoke(tx, row["id"])) or ({}, None)
    assert (again, new) == (revoked, False)
    assert credentials.state(again, row["created_at"]) == "revoked"
    assert await db.write(lambda tx: credentials.revoke(tx, "key_none")) is None


async def test_keys_exist_from_the_first_on_even_when_all_have_ended(db: Database) -> None:
    assert not await db.read(credentials.exists)
    row, _ = await make(db)
    await db.write(lambda tx: credentials.revoke(tx, row["id"]))
    assert await db.read(credentials.exists)


async def test_the_time_of_last_use_is_written_once_a_minute(db: Database, time: Time) -> None:
    row, _ = await make(db)

    async def use() -> int:
        def unit(tx: Tx) -> int:
            credentials.touch(tx, row["id"])
            used: int = tx.value("SELECT last_used_at FROM api_key")
            return used

        return await db.write(unit)

    first = await use()
    time.passes(59)
    assert await use() == first
    time.passes(2)
    assert await use() >= first + 60_000
    assert credentials.is_stale({"last_used_at": None}, first)
    assert not credentials.is_stale({"last_used_at": first}, first + 60_000)
    assert credentials.is_stale({"last_used_at": first}, first + 60_001)


async def test_nothing_is_looked_up_for_nothing(db: Database) -> None:
    assert await db.read(lambda tx: credentials.live(tx, [])) == {}


def test_scopes_of_a_newer_version_mean_nothing_here() -> None:
    assert credentials.scopes_of({"scopes": "submit audit"}) == {Scope.SUBMIT}
    assert credentials.scopes_of({"scopes": ""}) == frozenset()


@pytest.mark.parametrize("tenant", ["default", "acme", "a", "0", "acme-web_2", "a" * 63])
def test_a_tenants_name_fits_into_a_path(tenant: str) -> None:
    assert check_tenant(tenant) == tenant


@pytest.mark.parametrize(
    "tenant", ["", "inputs", "Acme", "a" * 64, "-a", "_a", "a/b", "..", ".", "a b", "ä", "acme\n", "a\0", "*", "%"]
)
def test_what_does_not_fit_into_a_path_is_no_tenant(tenant: str) -> None:
    with pytest.raises(ValueError, match="cannot be a tenant's name"):
        check_tenant(tenant)


def test_a_keys_name_is_for_people() -> None:
    assert check_name("the web app (José)") == "the web app (José)"
    for name in ("", "  ", "a\nb", "a\x1b[2J", "x" * 101):
        with pytest.raises(ValueError, match="1 to 100 printable"):
            check_name(name)
