"""Providers ring: known rings wake the job once, everything else is turned away."""

from __future__ import annotations

import pytest

from pipeline import ledger
from pipeline.keys import Signer
from providers.base import Recovery
from tests.house import House, open_house

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


HOUR_MS = 3_600_000


async def submitted(house: House, token: str, outcome: str = "unknown") -> str:
    """A generation whose submit is in this state; its job is due in an hour."""
    made = await house.submit("x")

    def write(tx) -> None:
        row = tx.one("SELECT * FROM generation WHERE id = :id", {"id": made["id"]})
        assert ledger.intend(tx, row, token=token, estimate_micros=1, recovery=Recovery())
        tx.update("submission", {"outcome": outcome}, "token = :token", {"token": token})
        changed = {"status": "pending", "step": "resolve", "scheduled_for": tx.now + HOUR_MS}
        tx.update("job", changed, "subject_id = :id", {"id": made["id"]})

    await house.plant.db.write(write)
    return made["id"]


def one(house: House, sql: str, **bound: object) -> dict:
    return house.plant.db.read_now(lambda tx: tx.one(sql, bound))


def ring(house: House, token: str, body: object, provider: str = "mock"):
    """Post to the address that the provider was given for this submission."""
    return house.api.post(f"/callbacks/{provider}/{house.plant.callbacks.seal(token)}", json=body)


async def test_a_ring_wakes_the_job_and_leaves_the_operation_as_a_candidate(house, name):
    token = name()
    generation_id = await submitted(house, token)
    before = house.plant.clock.now_ms()
    for _ in range(3):
        response = await ring(house, token, {"event_id": f"{token}.ended", "id": "op_1", "status": "succeeded"})
        assert response.status_code == 200
    job = one(house, "SELECT * FROM job WHERE subject_id = :id", id=generation_id)
    assert job["scheduled_for"] < before + HOUR_MS / 2
    assert job["wake_seq"] == 1
    kept = one(house, "SELECT count(*) AS n FROM callback WHERE token = :token", token=token)
    assert kept["n"] == 1
    submission = one(house, "SELECT * FROM submission WHERE token = :token", token=token)
    assert submission["candidate_operation_id"] == "op_1"
    assert submission["operation_id"] is None
    assert (await house.get(generation_id))["status"] == "queued"


@pytest.mark.parametrize("token", ["nothing", "%00", "%F0%9F%A6%8A", "x" * 3000])
async def test_an_address_that_was_never_handed_out(house, token):
    for path in (token, house.plant.callbacks.seal("nothing").replace("nothing", token)):
        response = await house.api.post(f"/callbacks/mock/{path}", json={"event_id": "e", "id": "op"})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_seal_of_ours_for_a_submission_that_is_not_there(house):
    assert (await ring(house, "nothing", {"event_id": "e", "id": "op"})).status_code == 404


async def test_the_bare_token_of_a_submission_is_no_address(house, name):
    """Tokens are in timelines, file names and the provider's lists: who reads one cannot ring with it."""
    token = name()
    await submitted(house, token)
    sealed = house.plant.callbacks.seal(token)
    for path in (
        token,
        f"sub_{token}",
        f"{token}.",
        sealed[:-1],
        f"{sealed}x",
        Signer(("theirs",), "callback").seal(token),
    ):
        response = await house.api.post(f"/callbacks/mock/{path}", json={"event_id": "e", "id": "op"})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    submission = one(house, "SELECT * FROM submission WHERE token = :token", token=token)
    assert submission["candidate_operation_id"] is None
    assert one(house, "SELECT count(*) AS n FROM callback WHERE token = :token", token=token)["n"] == 0


async def test_another_providers_address(house, name):
    token = name()
    await submitted(house, token)
    assert (await ring(house, token, {"event_id": "e", "id": "op"}, provider="veo")).status_code == 404
    await house.plant.db.write(
        lambda tx: tx.update("submission", {"provider": "veo"}, "token = :token", {"token": token})
    )
    assert (await ring(house, token, {"event_id": "e", "id": "op"})).status_code == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"event_id": 1, "id": "x"}',
        b'{"event_id": "", "id": "x"}',
        b'{"event_id": "a\\u0000", "id": "x"}',
        b'{"event_id": "a", "id": "\\u0000"}',
        b'{"event_id": "' + b"x" * 501 + b'", "id": "x"}',
        b'{"event_id": "a", "id": "' + b"x" * 501 + b'"}',
        b'{"event_id": "\\ud800", "id": "x"}',
    ],
)
async def test_garbage(house, name, raw):
    token = name()
    await submitted(house, token)
    response = await house.api.post(f"/callbacks/mock/{house.plant.callbacks.seal(token)}", content=raw)
    assert (response.status_code, response.json()["code"]) == (400, "callback_refused")


async def test_a_giant(house, name):
    token = name()
    await submitted(house, token)
    sealed = house.plant.callbacks.seal(token)
    response = await house.api.post(f"/callbacks/mock/{sealed}", content=b" " * 1_000_001)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_the_token_is_not_logged(house, name, caplog):
    token = name()
    await submitted(house, token)
    with caplog.at_level("INFO", logger="dailies"):
        await ring(house, token, {"event_id": f"{token}.ended", "id": "op_1"})
    lines = [record.fields for record in caplog.records if record.getMessage() == "request.done"]
    assert [line["path"] for line in lines] == ["/callbacks/mock/..."]


async def test_a_callback_that_cannot_be_verified_just_now_is_to_be_sent_again(tmp_path):
    settings = {"fal_api_key": "k:s", "fal_url": "http://127.0.0.1:9/fal", "fal_jwks_url": "http://127.0.0.1:9/keys"}
    async with open_house(tmp_path, work=False, **settings) as house:
        sealed = house.plant.callbacks.seal("sub_1")
        headers = {"x-fal-webhook-request-id": "r", "x-fal-webhook-user-id": "u", "x-fal-webhook-signature": "00" * 64}
        headers["x-fal-webhook-timestamp"] = str(int(house.plant.clock.now()))
        response = await house.api.post(f"/callbacks/fal/{sealed}", content=b"{}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (503, "callback_unverified")
    assert response.headers["retry-after"] == "60"
