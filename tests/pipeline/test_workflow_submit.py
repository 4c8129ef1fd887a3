"""The submit stage against a provider that answers as the test says: what closes the lane, what costs nothing."""

from __future__ import annotations

import pytest

from pipeline import admission, ledger
from pipeline.lifecycle import Advance, Fail, Fault, Hold, Requeue, Snooze, Step
from providers.base import ErrorCode, ProviderError
from tests.pipeline.provider_script import LANE, Script, by_hand, say, scripted_house

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_bad_key_or_an_empty_account_closes_the_lane_and_keeps_the_work(tmp_path, status):
    async with by_hand(tmp_path, lane_pause=60) as hand:
        hand.script.submit = [say(status)]
        asked = await hand.house.submit("a fox")
        assert isinstance(await hand.take(Step.SUBMIT), Requeue)
        generation = await hand.house.get(asked["id"])
        assert (generation["status"], generation["stage"], generation["error"]) == ("processing", "waiting", None)
        assert (await hand.row("job"))["status"] == "waiting"
        assert (await hand.row("submission"))["outcome"] == "rejected"
        lane = await hand.row("lane")
        assert 55_000 < lane["paused_until"] - await hand.now() <= 60_000
        assert lane["paused_reason"].startswith(("provider_auth", "provider_quota"))


async def test_work_outlives_a_bad_key_however_long_it_lasts(tmp_path):
    script = Script()
    script.submit = [*(say(401) for _ in range(6)), *script.submit]
    async with scripted_house(tmp_path, script, lane_pause=0.05, max_attempts=1, max_submissions=1) as house:
        ended = await house.ended((await house.submit("a fox"))["id"])
    assert (ended["status"], script.calls["submit"]) == ("completed", 7)


@pytest.mark.parametrize(("asked", "least", "most"), [("86400", 890, 900), ("0", 0, 1), ("30", 25, 30)])
async def test_one_answer_pauses_the_lane_within_bounds(tmp_path, asked, least, most):
    async with by_hand(tmp_path) as hand:
        hand.script.submit = [say(429, retry_after=asked)]
        await hand.house.submit("a fox")
        await hand.take(Step.SUBMIT)
        pause = ((await hand.row("lane"))["paused_until"] - await hand.now()) / 1000
        assert least <= pause <= most


@pytest.mark.parametrize(("status", "streak"), [(422, 0), (401, 0), (429, 0), (202, 0), (500, 3)])
async def test_a_clear_answer_ends_the_streak_of_unclear_ones(tmp_path, status, streak):
    async with by_hand(tmp_path) as hand:
        hand.script.submit = [say(status, {"id": "vid_1"})]
        await hand.house.submit("a fox")
        turn = await hand.begin(Step.SUBMIT)
        await hand.db.write(lambda tx: [admission.note_unknown(tx, LANE, seconds=0.0) for _ in range(2)])
        await hand.record(turn, await hand.run(turn))
        assert (await hand.row("lane"))["unknown_streak"] == streak


async def test_a_provider_that_cannot_be_reached_says_nothing_of_the_streak(tmp_path):
    async with by_hand(tmp_path, mock_url=NOWHERE) as hand:
        await hand.house.submit("a fox")
        turn = await hand.begin(Step.SUBMIT)
        await hand.db.write(lambda tx: [admission.note_unknown(tx, LANE, seconds=0.0) for _ in range(2)])
        await hand.record(turn, await hand.run(turn))
        assert (await hand.row("lane"))["unknown_streak"] == 2


async def test_what_was_admitted_before_a_pause_is_given_back_unpaid(tmp_path):
    async with by_hand(tmp_path) as hand:
        asked = await hand.house.submit("a fox")
        await hand.db.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(10)))
        await hand.db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="somebody else met a limit"))
        why = Fault("lane_paused", "the provider's lane is paused: somebody else met a limit")
        assert await hand.take(Step.SUBMIT) == Requeue(0.0, why, stays=True)
        assert (hand.script.calls["submit"], (await hand.house.get(asked["id"]))["stage"]) == (0, "waiting")
        job, lane = await hand.row("job"), await hand.row("lane")
        assert (job["status"], job["attempts"]) == ("waiting", 0)
        assert lane["paused_reason"] == "somebody else met a limit"
        assert await hand.db.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(10))) == 0
        await hand.db.write(lambda tx: admission.resume(tx, LANE))
        assert isinstance(await hand.take(Step.SUBMIT), Advance)


async def test_an_acceptance_after_the_end_is_told_since_it_may_have_been_charged(tmp_path):
    async with by_hand(tmp_path) as hand:
        asked = await hand.house.submit("a fox")
        turn = await hand.begin(Step.SUBMIT)
        report = await hand.run(turn)

        def given_up(tx):
            token = tx.value("SELECT token FROM submission")
            ledger.abandon(tx, token, ProviderError(ErrorCode.TRANSIENT, "nobody knows"))
            tx.run("UPDATE generation SET status = 'failed', stage = NULL")
            tx.run("UPDATE job SET status = 'dead', fence = fence + 1, locked_by = NULL, locked_until = NULL")

        await hand.db.write(given_up)
        assert await hand.record(turn, report) is None, "the decision is not kept"
        assert (await hand.house.timeline(asked["id"]))[-1] == "submit.late"
        submission = await hand.row("submission")
        assert (submission["operation_id"], submission["billed"]) == ("vid_1", "unknown")
        assert (await hand.house.get(asked["id"]))["status"] == "failed"
        await hand.record(turn, report)
        assert (await hand.house.timeline(asked["id"])).count("submit.late") == 1


async def test_an_acceptance_in_time_is_not_called_late(tmp_path):
    async with by_hand(tmp_path) as hand:
        asked = await hand.house.submit("a fox")
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert "submit.late" not in await hand.house.timeline(asked["id"])


@pytest.mark.parametrize("bad", ["", "x" * 501, "a\x00b", "a\nb"])
async def test_an_accepting_answer_with_an_id_that_is_no_text_is_unclear(tmp_path, bad):
    async with by_hand(tmp_path) as hand:
        hand.script.submit = [say(202, {"id": bad})]
        await hand.house.submit("a fox")
        assert isinstance(await hand.take(Step.SUBMIT), Hold)
        assert (await hand.row("submission"))["outcome"] == "unknown"


async def test_words_of_a_provider_that_no_database_takes_are_cleaned(tmp_path):
    async with by_hand(tmp_path) as hand:
        hand.script.submit = [say(422, {"error": {"code": "b\x00ad", "message": "no \x00 \ud800 fox " + "x" * 900}})]
        asked = await hand.house.submit("a fox")
        assert isinstance(await hand.take(Step.SUBMIT), Fail)
        shown = (await hand.house.get(asked["id"]))["error"]
        assert shown["message"].startswith("no  ? fox xxx")
        assert len(shown["message"]) <= 500


async def test_a_lease_that_ends_before_anything_was_sent_costs_no_attempt(tmp_path):
    """On a machine that starves this comes again and again: it is nobody's failure."""
    async with by_hand(tmp_path, max_attempts=1, max_submissions=1) as hand:
        asked = await hand.house.submit("a fox")
        for tries in range(1, 4):
            turn = await hand.begin(Step.SUBMIT)
            turn.lease.margin = 1000.0
            assert isinstance(await hand.record(turn, await hand.run(turn)), Snooze)
            job = await hand.row("job")
            assert (job["status"], job["attempts"], job["polls"]) == ("pending", 0, tries)
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        told = await hand.house.timeline(asked["id"])
        assert told.count("submit.rejected") == 3
        assert hand.script.calls["submit"] == 1
