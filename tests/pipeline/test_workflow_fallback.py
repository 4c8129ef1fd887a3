"""Chains: the next provider is asked only where this one surely took nothing, or failed at no charge; never blindly."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from pipeline import admission
from pipeline.lifecycle import Advance, Cancel, Complete, DeadLetter, Fail, Fallback, Hold, Requeue, Retry, Snooze, Step
from tests.house import open_house
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.provider_script import LANE, by_hand, say
from tests.pipeline.two_providers import CHAIN, pair, spare_of

pytestmark = pytest.mark.anyio

SPARE = "provider:spare"
NOWHERE = "http://127.0.0.1:9"
UNBILLED = {"status": "failed", "error": {"code": "internal", "message": "chance"}}


async def where(hand):
    """(provider, candidate) of the generation, (lane, fallback, status, attempts) of its job."""
    generation = await hand.row("generation")
    of = {"id": generation["id"]}
    job = await hand.db.read(lambda tx: tx.one("SELECT * FROM job WHERE subject_id = :id", of))
    return (generation["provider"], generation["candidate"]), (
        job["lane"], job["fallback"], job["status"], job["attempts"],
    )  # fmt: skip


MOVED = (("spare", 1), (SPARE, 0, "waiting", 0))


async def detail(hand, generation_id, event):
    body = (await hand.house.api.get(f"/api/generations/{generation_id}/events")).json()
    return next(line["detail"] for line in body["data"] if line["event"] == event)


# --- what is surely not taken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "pauses"),
    [
        (429, "provider_rate_limited", True),
        (401, "provider_auth", True),
        (402, "provider_quota", True),
        (422, "provider_rejected", False),
        (503, None, None),
    ],
)
async def test_a_sure_refusal_goes_to_the_next_provider(tmp_path, status, code, pauses):
    async with pair(tmp_path) as (hand, spare):
        hand.script.submit = [say(status)]
        asked = await hand.house.submit("a fox", **CHAIN)
        place = (await hand.row("job"))["sort_at"]
        decision = await hand.take(Step.SUBMIT)
        if code is None:
            assert isinstance(decision, Hold), "nobody knows: never elsewhere"
            assert (await where(hand))[0] == ("mock", 0)
            return
        assert isinstance(decision, Fallback)
        assert await where(hand) == MOVED
        assert (await hand.row("job"))["sort_at"] == place
        told = await detail(hand, asked["id"], "fallback")
        assert (told["from"], told["to"], told["code"]) == ("mock", "spare", code)
        assert told["reason"]
        lanes = {row["name"]: row for row in await hand.db.read(admission.lanes)}
        assert ((lanes[LANE]["paused_until"] or 0) > await hand.now()) is pauses, "others are kept off it all the same"
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert (hand.script.calls["submit"], spare.calls["submit"]) == (1, 1)
        submissions = await hand.db.read(lambda tx: tx.all("SELECT provider, outcome FROM submission ORDER BY id"))
        assert [tuple(row.values()) for row in submissions] == [("mock", "rejected"), ("spare", "accepted")]
        assert isinstance(await hand.take(Step.POLL), Advance)
        assert isinstance(await hand.take(Step.STORE), Complete)
        assert (await hand.house.get(asked["id"]))["provider"] == "spare"


async def test_the_next_candidate_has_its_own_model_members_and_price(tmp_path):
    async with pair(tmp_path) as (hand, _):
        hand.script.submit = [say(422)]
        models = sorted(hand.house.plant.providers.ready["spare"].capabilities.catalogue.models)
        chosen = {"provider": "spare", "model": models[-1], "extra": {"style": "oil"}}
        asked = await hand.house.submit("a fox", provider="mock", fallback=[chosen], extra={"style": "ink"})
        before = await hand.row("generation")
        assert json.loads(before["extra"]) == {"style": "ink"}
        await hand.take(Step.SUBMIT)
        after = await hand.row("generation")
        assert (after["model"], json.loads(after["extra"])) == (models[-1], {"style": "oil"})
        assert after["estimate_micros"] > 0
        await hand.take(Step.SUBMIT)
        submission = await hand.row("submission")
        assert (submission["model"], submission["estimate_micros"]) == (models[-1], after["estimate_micros"])
        assert (await hand.house.get(asked["id"]))["model"] == models[-1]


async def test_what_never_left_us_goes_to_the_next_provider(tmp_path):
    async with pair(tmp_path, mock_url=NOWHERE) as (hand, _):
        await hand.house.submit("a fox", **CHAIN)
        assert isinstance(await hand.take(Step.SUBMIT), Fallback)
        assert await where(hand) == MOVED


async def test_a_provider_that_is_not_configured_here_is_passed_by(tmp_path):
    async with pair(tmp_path) as (hand, _):
        await hand.house.submit("a fox", **CHAIN)
        del hand.house.plant.providers.ready["mock"]
        assert isinstance(await hand.take(Step.SUBMIT), Fallback)
        assert await where(hand) == MOVED
        assert isinstance(await hand.take(Step.SUBMIT), Advance)


async def test_a_next_provider_that_is_not_configured_here_is_none(tmp_path):
    async with pair(tmp_path) as (hand, _):
        await hand.house.submit("a fox", **CHAIN)
        del hand.house.plant.providers.ready["spare"]
        hand.script.submit = [say(422)]
        assert isinstance(await hand.take(Step.SUBMIT), Fail)
        assert (await where(hand))[0] == ("mock", 0)


async def test_the_last_candidate_behaves_as_if_it_were_alone(tmp_path):
    async with pair(tmp_path, max_attempts=2) as (hand, spare):
        hand.script.submit = [say(422)]
        spare.submit = [say(429), say(422)]
        await hand.house.submit("a fox", **CHAIN)
        assert isinstance(await hand.take(Step.SUBMIT), Fallback)
        assert isinstance(await hand.take(Step.SUBMIT), Requeue)
        await hand.db.write(lambda tx: admission.resume(tx, SPARE))
        assert isinstance(await hand.take(Step.SUBMIT), Fail)


# --- what is never a reason ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [say(500), say(408), say(409), say(202, {"nothing": "in it"})])
async def test_an_unknown_outcome_is_never_taken_elsewhere(tmp_path, answer):
    async with pair(tmp_path, mock_recovery="none", on_unknown_submit="fail") as (hand, spare):
        hand.script.submit = [answer]
        await hand.house.submit("a fox", **CHAIN)
        assert isinstance(await hand.take(Step.SUBMIT), Hold)
        await hand.change("submission", intended_at=-100_000.0, answered_at=-100_000.0)
        assert isinstance(await hand.take(Step.RESOLVE), DeadLetter)
        assert (await where(hand))[0] == ("mock", 0)
        assert spare.calls["submit"] == 0


async def test_a_timeout_is_never_taken_elsewhere(tmp_path):
    async with pair(tmp_path, generation_timeout=10) as (hand, spare):
        await hand.house.submit("a fox", **CHAIN)
        await hand.take(Step.SUBMIT)
        await hand.change("generation", accepted_at=-11)
        hand.script.poll = [say(200, {"status": "running"})]
        assert isinstance(await hand.take(Step.POLL), DeadLetter)
        assert spare.calls["submit"] == 0


@pytest.mark.parametrize(
    "answer",
    [UNBILLED | {"cost_micros": 1}, {"status": "failed", "error": {"code": "moderation", "message": "no"}}],
)
async def test_a_failure_that_may_be_billed_is_never_taken_elsewhere(tmp_path, answer):
    async with pair(tmp_path) as (hand, spare):
        await hand.house.submit("a fox", **CHAIN)
        await hand.take(Step.SUBMIT)
        hand.script.poll = [say(200, answer)]
        assert isinstance(await hand.take(Step.POLL), Fail)
        assert spare.calls["submit"] == 0


async def test_our_own_lost_lease_is_no_fault_of_the_provider(tmp_path):
    async with pair(tmp_path) as (hand, _):
        await hand.house.submit("a fox", **CHAIN)
        turn = await hand.begin(Step.SUBMIT)
        turn.lease.margin = 1000.0
        assert isinstance(await hand.record(turn, await hand.run(turn)), Snooze)
        assert (await where(hand))[0] == ("mock", 0)


# --- failed at no charge ---------------------------------------------------------------------------------------------


async def test_an_unbilled_failure_goes_to_the_next_provider_before_the_same_is_asked_again(tmp_path):
    async with pair(tmp_path) as (hand, spare):
        await hand.house.submit("a fox", **CHAIN)
        await hand.take(Step.SUBMIT)
        hand.script.poll, spare.poll = [say(200, UNBILLED)], [say(200, UNBILLED)]
        assert isinstance(await hand.take(Step.POLL), Fallback)
        assert await where(hand) == MOVED
        row = await hand.row("generation")
        assert (row["operation"], row["progress"]) == (None, None)
        assert not await hand.db.read(lambda tx: admission.is_paused(tx, LANE)), "it works, for others"
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert isinstance(await hand.take(Step.POLL), Requeue), "the last one may be asked again"
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert isinstance(await hand.take(Step.POLL), Fail), "the whole chain has three submissions"
        assert (hand.script.calls["submit"], spare.calls["submit"]) == (1, 2)


async def test_the_bound_on_submissions_is_of_the_whole_chain(tmp_path):
    async with pair(tmp_path, max_submissions=1) as (hand, spare):
        await hand.house.submit("a fox", **CHAIN)
        await hand.take(Step.SUBMIT)
        hand.script.poll = [say(200, UNBILLED)]
        assert isinstance(await hand.take(Step.POLL), Fail)
        assert spare.calls["submit"] == 0


# --- paused lanes ----------------------------------------------------------------------------------------------------


async def test_who_waits_in_a_paused_lane_goes_on_where_another_can_be_asked(tmp_path):
    async with pair(tmp_path) as (hand, spare):
        await hand.house.submit("alone")
        await hand.house.submit("a fox", **CHAIN)
        await hand.db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="an invoice"))
        assert isinstance(await hand.take(Step.SUBMIT), Fallback)
        assert await where(hand) == MOVED
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert (hand.script.calls["submit"], spare.calls["submit"]) == (0, 1)
        waiting = await hand.db.read(lambda tx: tx.all("SELECT lane FROM job WHERE status = 'waiting'"))
        assert waiting == [{"lane": LANE}]
        told = await detail(hand, (await hand.row("generation"))["id"], "fallback")
        assert (told["code"], "an invoice" in told["reason"]) == ("lane_paused", True)


async def test_nobody_goes_anywhere_while_the_whole_service_is_paused(tmp_path):
    async with pair(tmp_path) as (hand, _):
        await hand.house.submit("a fox", **CHAIN)
        await hand.db.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(10)))
        await hand.db.write(lambda tx: admission.pause(tx, admission.EVERYTHING, seconds=60, reason="x"))
        assert isinstance(await hand.take(Step.SUBMIT), Requeue)
        assert (await where(hand)) == (("mock", 0), (LANE, 1, "waiting", 0))
        assert await hand.db.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(10))) == 0


async def test_who_has_nobody_else_in_the_end_waits_and_is_not_asked_again_and_again(tmp_path):
    async with pair(tmp_path) as (hand, _):
        await hand.house.submit("a fox", **CHAIN)
        del hand.house.plant.providers.ready["spare"]
        await hand.db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="x"))
        assert isinstance(await hand.take(Step.SUBMIT), Requeue)
        assert await hand.db.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(10))) == 0


async def test_a_pause_between_the_claim_and_the_intent_is_seen(tmp_path):
    async with by_hand(tmp_path) as hand:
        await hand.house.submit("a fox")
        turn = await hand.begin(Step.SUBMIT)
        await hand.db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="x"))
        assert isinstance(await hand.record(turn, await hand.run(turn)), Requeue)
        assert hand.script.calls["submit"] == 0
        assert await hand.db.read(lambda tx: tx.value("SELECT count(*) FROM submission")) == 0


async def test_a_cancel_is_not_taken_elsewhere(tmp_path):
    async with pair(tmp_path) as (hand, _):
        hand.script.submit = [say(422)]
        asked = await hand.house.submit("a fox", **CHAIN)
        turn = await hand.begin(Step.SUBMIT)
        report = await hand.run(turn)
        await hand.house.api.post(f"/api/generations/{asked['id']}/cancel")
        assert isinstance(await hand.record(turn, report), Cancel)
        assert (await hand.house.get(asked["id"]))["provider"] == "mock"


async def test_a_redrive_begins_with_the_first_of_the_chain(tmp_path):
    async with pair(tmp_path) as (hand, spare):
        hand.script.submit, spare.submit = [say(422)], [say(422)]
        asked = await hand.house.submit("a fox", **CHAIN)
        assert isinstance(await hand.take(Step.SUBMIT), Fallback)
        assert isinstance(await hand.take(Step.SUBMIT), Fail)
        answer = await hand.house.api.post(f"/api/generations/{asked['id']}/redrive")
        assert (answer.status_code, answer.json()["provider"]) == (202, "mock")
        assert await where(hand) == (("mock", 0), (LANE, 1, "waiting", 0))


# --- polls -----------------------------------------------------------------------------------------------------------


async def test_a_key_that_is_refused_at_a_poll_closes_the_lane(tmp_path):
    async with by_hand(tmp_path, lane_pause=60) as hand:
        await hand.generating()
        await hand.change("submission", answered_at=-3600.0)
        hand.script.poll = [say(401)]
        assert isinstance(await hand.take(Step.POLL), Retry)
        lane = await hand.row("lane")
        assert lane["paused_reason"].startswith("provider_auth")
        assert (lane["probing"], 55_000 < lane["paused_until"] - await hand.now() <= 60_000) == (1, True)


# --- the whole house -------------------------------------------------------------------------------------------------


async def test_the_line_of_a_turn_names_its_provider(tmp_path):
    async with by_hand(tmp_path) as hand:
        await hand.house.submit("a fox")
        turn = await hand.begin(Step.SUBMIT)
        report = await hand.run(turn)
        assert report.fields["provider"] == "mock"


async def test_a_fallback_is_told_once_it_is_committed(tmp_path, caplog):
    async with pair(tmp_path) as (hand, _):
        hand.script.submit = [say(422)]
        asked = await hand.house.submit("a fox", **CHAIN)
        with caplog.at_level(logging.INFO, logger="dailies"):
            await hand.take(Step.SUBMIT)
        (told,) = [record for record in caplog.records if record.getMessage() == "generation.fallback"]
        fields = told.fields
        assert (fields["provider"], fields["to"], fields["generation"]) == ("mock", "spare", asked["id"])


async def test_many_go_elsewhere_while_the_first_is_closed_and_each_is_paid_once(tmp_path, place):
    async with open_house(
        tmp_path, **SETTINGS | {"database_url": place.url, "slots_submit": 2, "speed": 1000}
    ) as house:
        async with spare_of(house, speed=1000) as spare:
            spare.submit = [say(202, {"id": f"vid_{number}"}) for number in range(12)]
            await house.plant.db.write(lambda tx: admission.pause(tx, LANE, seconds=600, reason="x"))
            asked = [await house.submit(f"fox {number}", **CHAIN) for number in range(12)]
            ended = await asyncio.gather(*(house.ended(one["id"]) for one in asked))
        assert [one["status"] for one in ended] == ["completed"] * 12
        assert (await house.ledger(), spare.calls["submit"]) == ([], 12)
