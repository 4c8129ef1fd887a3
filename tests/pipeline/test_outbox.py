"""The default endpoint follows WEBHOOK_URL; a receiver that said 410 is listed, not forgotten."""

from __future__ import annotations

import pytest

from pipeline.db import Database, Row, Tx
from pipeline.outbox import DEFAULT_ENDPOINT, OPERATOR_ENDPOINT, UNSET, set_default_endpoint, set_operator_endpoint
from pipeline.outbox.endpoints import places

pytestmark = pytest.mark.anyio

URL = "https://app.example/hook"
GONE = "410 Gone"
GENERATION: Row = {"id": "gen_1", "tenant_id": "default", "webhook_url": None, "webhook_events": None}


async def set_url(db: Database, url: str | None) -> None:
    events = ["generation.completed"]
    await db.write(lambda tx: set_default_endpoint(tx, url=url, events=events, tenant="default"))


async def answer_gone(db: Database) -> None:
    """As a delivery does that was answered 410."""
    sql = "UPDATE webhook_endpoint SET disabled_at = :now, disabled_reason = :reason WHERE disabled_at IS NULL"
    await db.write(lambda tx: tx.run(sql, {"now": tx.now, "reason": GONE}))


async def endpoint(db: Database) -> tuple[str, str | None]:
    """The URL, and why it is off if it is."""

    def look(tx: Tx) -> Row | None:
        return tx.one("SELECT * FROM webhook_endpoint WHERE id = :id", {"id": DEFAULT_ENDPOINT})

    row = await db.read(look)
    assert row is not None
    return row["url"], row["disabled_reason"] if row["disabled_at"] is not None else None


async def receivers(db: Database, event: str = "generation.completed", tenant: str = "default") -> list[str]:
    generation = GENERATION | {"tenant_id": tenant}
    return [row["id"] for row in await db.read(lambda tx: places(tx, generation, event))]


async def test_an_endpoint_that_answered_410_still_gets_deliveries(db: Database) -> None:
    await set_url(db, URL)
    await answer_gone(db)
    assert await receivers(db) == [DEFAULT_ENDPOINT]
    assert await receivers(db, "generation.progress") == []


async def add_endpoint(db: Database, name: str, tenant: str) -> None:
    row = {"id": name, "tenant_id": tenant, "url": URL, "events": '["generation.completed"]', "secret_ref": "settings"}
    await db.write(lambda tx: tx.insert("webhook_endpoint", row | {"created_at": tx.now}))


async def test_a_tenant_without_an_endpoint_of_its_own_has_that_of_the_settings(db: Database) -> None:
    await set_url(db, URL)
    await add_endpoint(db, "ep_acme", "acme")
    await add_endpoint(db, "ep_ours", "default")
    assert await receivers(db, tenant="globex") == [DEFAULT_ENDPOINT]
    assert await receivers(db, tenant="acme") == ["ep_acme"]
    assert sorted(await receivers(db)) == [DEFAULT_ENDPOINT, "ep_ours"]


async def test_a_tenants_own_endpoint_stays_its_only_one_after_a_410(db: Database) -> None:
    await set_url(db, URL)
    await add_endpoint(db, "ep_acme", "acme")
    await answer_gone(db)
    assert await receivers(db, tenant="acme") == ["ep_acme"]
    await set_url(db, None)
    assert await receivers(db, tenant="globex") == []


async def test_an_endpoint_that_is_not_set_gets_none(db: Database) -> None:
    await set_url(db, URL)
    await set_url(db, None)
    assert (await endpoint(db), await receivers(db)) == ((URL, UNSET), [])


@pytest.mark.parametrize("gone", [False, True])
async def test_unsetting_and_setting_the_url_again_opens_it(db: Database, gone: bool) -> None:
    await set_url(db, URL)
    if gone:
        await answer_gone(db)
    await set_url(db, None)
    await set_url(db, URL)
    assert (await endpoint(db), await receivers(db)) == ((URL, None), [DEFAULT_ENDPOINT])


@pytest.mark.parametrize("url", [URL, f"{URL}/new"])
async def test_a_start_opens_what_a_410_had_switched_off(db: Database, url: str) -> None:
    await set_url(db, URL)
    await answer_gone(db)
    assert await endpoint(db) == (URL, GONE)
    await set_url(db, url)
    assert await endpoint(db) == (url, None)


BY_HAND = "switched off by hand: moving"


async def test_what_a_person_switched_off_outlives_a_start_without_its_setting(db: Database) -> None:
    async def start(url: str | None) -> None:
        await set_url(db, url)
        await db.write(lambda tx: set_operator_endpoint(tx, url=url))

    await start(URL)
    off = "UPDATE webhook_endpoint SET disabled_at = 5, disabled_reason = :reason"
    await db.write(lambda tx: tx.run(off, {"reason": BY_HAND}))
    for url in (None, URL, None):
        await start(url)
        rows = await db.read(lambda tx: tx.all("SELECT id, disabled_at, disabled_reason FROM webhook_endpoint"))
        assert {row["id"] for row in rows} == {DEFAULT_ENDPOINT, OPERATOR_ENDPOINT}
        assert {(row["disabled_at"], row["disabled_reason"]) for row in rows} == {(5, BY_HAND)}


async def test_what_was_never_set_is_not_made_by_unsetting_it(db: Database) -> None:
    await set_url(db, None)
    assert await db.read(lambda tx: tx.all("SELECT * FROM webhook_endpoint")) == []
