"""The resolve stage: what became of a paid call, found out by every means, without paying again blindly."""

from __future__ import annotations

import pytest

from pipeline import admission, ledger
from pipeline.lifecycle import Advance, DeadLetter, Requeue, Snooze, Step
from providers.base import Operation
from tests.pipeline.provider_script import LANE, NOT_FOUND, RUNNING, by_hand, say

pytestmark = pytest.mark.anyio

QUIET = 2.0
"""The mock's lookup is final so many seconds after the call."""
OWN_ANSWER = 5.0 + 1.5 * 10.0
"""SUBMIT_TIMEOUT of these tests and what a process that was cut off may take: one and a half leases."""
LONG = 5.0 + 60.0
"""SUBMIT_TIMEOUT and GENERATION_TIMEOUT of these tests."""
TIMES = {"submit_timeout": 5, "generation_timeout": 60, "lease": 10}


async def end_of_call(hand):
    submission = await hand.row("submission")
    return submission["outcome"], submission["error_code"]


# --- by lookup -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "final"),
    [
        ({"intended_at": -3600.0, "answered_at": -QUIET + 1}, False),
        ({"intended_at": -3600.0, "answered_at": -QUIET - 0.1}, True),
        ({"intended_at": -OWN_ANSWER + 1, "answered_at": None}, False),
        ({"intended_at": -OWN_ANSWER - QUIET + 1, "answered_at": None}, False),
        ({"intended_at": -OWN_ANSWER - QUIET - 0.1, "answered_at": None}, True),
    ],
)
async def test_the_quiet_period_begins_when_no_byte_of_the_call_can_be_under_way(tmp_path, times, final):
    async with by_hand(tmp_path, mock_recovery="lookup", **TIMES) as hand:
        await hand.held(**times)
        decision = await hand.take(Step.RESOLVE)
        assert isinstance(decision, Requeue if final else Snooze)
        assert await end_of_call(hand) == (
            ("rejected", "provider_not_found") if final else ("unknown", "provider_unavailable")
        )


async def test_what_the_lookup_finds_is_adopted_as_taken_now(tmp_path):
    async with by_hand(tmp_path, mock_recovery="lookup", **TIMES) as hand:
        await hand.held(intended_at=-3600.0, answered_at=-3600.0)
        hand.script.lookup = [say(200, {"videos": [{"id": "vid_9"}]})]
        assert isinstance(await hand.take(Step.RESOLVE), Advance)
        generation = await hand.row("generation")
        assert (await hand.row("submission"))["operation_id"] == "vid_9"
        assert 0 <= await hand.now() - generation["accepted_at"] < 5000, "its deadline begins now"


async def test_after_not_found_a_paused_lane_is_waited_for(tmp_path):
    async with by_hand(tmp_path, mock_recovery="lookup", **TIMES) as hand:
        generation_id = await hand.held(answered_at=-QUIET - 1)
        await hand.db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="a limit"))
        assert isinstance(await hand.take(Step.RESOLVE), Requeue)
        await waits_and_then_goes_on(hand, generation_id)


async def waits_and_then_goes_on(hand, generation_id):
    """The job waits like any other while its lane is paused, with its old place in line, and is paid once then."""
    job, calls = await hand.row("job"), hand.script.calls["submit"]
    assert (job["status"], job["step"]) == ("waiting", "submit")
    assert (await hand.house.get(generation_id))["stage"] == "waiting"
    assert await hand.db.write(lambda tx: admission.admit(tx, limit=10, bounds=admission.Bounds(10))) == 0
    await hand.db.write(lambda tx: admission.resume(tx, LANE))
    assert isinstance(await hand.take(Step.SUBMIT), Advance)
    assert hand.script.calls["submit"] == calls + 1


async def test_a_lookup_that_misses_every_call_does_not_go_on_for_ever(tmp_path):
    async with by_hand(tmp_path, mock_recovery="lookup", max_submissions=2, **TIMES) as hand:
        hand.script.submit = [say(500)]
        asked = await hand.house.submit("a fox")
        for _ in range(2):
            await hand.take(Step.SUBMIT)
            await hand.change("submission", answered_at=-QUIET - 1)
            assert isinstance(await hand.take(Step.RESOLVE), Requeue)
        assert isinstance(await hand.take(Step.SUBMIT), DeadLetter)
        assert hand.script.calls["submit"] == 2
        assert (await hand.house.get(asked["id"]))["error"]["code"] == "max_submissions"


@pytest.mark.parametrize(("age", "given_up"), [(LONG - 2, False), (LONG + 1, True)])
async def test_a_lookup_that_fails_is_tried_for_as_long_as_a_generation_may_take(tmp_path, age, given_up):
    async with by_hand(tmp_path, mock_recovery="lookup", **TIMES) as hand:
        generation_id = await hand.held(intended_at=-age, answered_at=-age)
        hand.script.lookup = [say(401)]
        assert isinstance(await hand.take(Step.RESOLVE), DeadLetter if given_up else Snooze)
        assert (await hand.row("submission"))["outcome"] == ("abandoned" if given_up else "unknown")
        generation = await hand.house.get(generation_id)
        if given_up:
            assert (generation["error"]["code"], generation["error"]["retryable"]) == ("submit_unknown", False)
        else:
            assert (await hand.house.timeline(generation_id))[-1] == "resolve.failed"


async def test_what_a_failing_lookup_asks_for_is_honoured_within_bounds(tmp_path):
    async with by_hand(tmp_path, mock_recovery="lookup", **TIMES) as hand:
        await hand.held()
        hand.script.lookup = [say(429, retry_after="40")]
        assert (await hand.take(Step.RESOLVE)) == Snooze(40.0)
        hand.script.lookup = [say(429, retry_after="86400")]
        assert (await hand.take(Step.RESOLVE)) == Snooze(600.0)


# --- by the idempotency key ------------------------------------------------------------------------------------------


async def test_a_refused_repeat_says_nothing_of_the_first_call(tmp_path):
    """The first call may have taken the last of the credit: 402 to the repeat is no proof of anything."""
    async with by_hand(tmp_path, **TIMES) as hand:
        generation_id = await hand.held()
        hand.script.submit = [say(402)]
        for _ in range(5):
            assert isinstance(await hand.take(Step.RESOLVE), Snooze)
            assert (await hand.row("submission"))["outcome"] == "unknown"
        assert isinstance(await hand.take(Step.RESOLVE), DeadLetter)
        assert hand.script.calls["submit"] == 1 + 6
        assert (await hand.row("submission"))["outcome"] == "abandoned"
        error = (await hand.house.get(generation_id))["error"]
        assert (error["code"], error["retryable"]) == ("submit_unknown", False)


async def test_a_repeat_that_is_taken_after_all_is_adopted_as_taken_now(tmp_path):
    async with by_hand(tmp_path, **TIMES) as hand:
        accepted, hand.script.submit = hand.script.submit, [say(402)]
        await hand.held(intended_at=-3600.0)
        assert isinstance(await hand.take(Step.RESOLVE), Snooze)
        hand.script.submit = accepted
        assert isinstance(await hand.take(Step.RESOLVE), Advance)
        assert 0 <= await hand.now() - (await hand.row("generation"))["accepted_at"] < 5000
        assert await end_of_call(hand) == ("accepted", None)


async def test_a_repeat_that_meets_a_rate_limit_is_repeated_as_often_as_it_takes(tmp_path):
    async with by_hand(tmp_path, **TIMES) as hand:
        await hand.held()
        hand.script.submit = [say(429, retry_after="7")]
        for _ in range(8):
            assert await hand.take(Step.RESOLVE) == Snooze(7.0)
        assert (await hand.row("submission"))["outcome"] == "unknown"


async def test_each_unclear_call_has_its_own_patience(tmp_path):
    async with by_hand(tmp_path, **TIMES) as hand:
        await hand.house.submit("a fox")
        await hand.db.write(lambda tx: tx.run("UPDATE job SET polls = 50"))
        hand.script.submit = [say(500)]
        await hand.take(Step.SUBMIT)
        hand.script.submit = [say(402)]
        assert isinstance(await hand.take(Step.RESOLVE), Snooze), "not given up for the polls of an earlier call"


@pytest.mark.parametrize(("age", "given_up"), [(LONG - 2, False), (LONG + 1, True)])
async def test_an_input_image_that_cannot_be_read_is_waited_for_as_long_as_a_generation_may_take(
    tmp_path, age, given_up
):
    async with by_hand(tmp_path, **TIMES) as hand:
        generation_id = await hand.held(intended_at=-age)
        await hand.change("generation", input_key="inputs/that-is-not-there")
        calls = hand.script.calls["submit"]
        assert isinstance(await hand.take(Step.RESOLVE), DeadLetter if given_up else Snooze)
        assert (await hand.row("submission"))["outcome"] == ("abandoned" if given_up else "unknown")
        assert hand.script.calls["submit"] == calls
        assert ("resolve.failed" in await hand.house.timeline(generation_id)) != given_up


# --- by a callback ---------------------------------------------------------------------------------------------------


async def test_a_candidate_that_the_provider_does_not_know_yet_is_kept(tmp_path):
    async with by_hand(tmp_path, mock_recovery="callback", mock_speed=1, **TIMES) as hand:
        await hand.held(intended_at=-30.0)
        token = (await hand.row("submission"))["token"]
        await hand.db.write(lambda tx: ledger.add_candidate(tx, token, "vid_7"))
        hand.script.poll = [NOT_FOUND]
        for _ in range(3):
            assert isinstance(await hand.take(Step.RESOLVE), Snooze)
            assert (await hand.row("submission"))["candidate_operation_id"] == "vid_7"
        hand.script.poll = [RUNNING]
        assert isinstance(await hand.take(Step.RESOLVE), Advance)
        assert (await hand.row("submission"))["operation_id"] == "vid_7"
        assert 0 <= await hand.now() - (await hand.row("generation"))["accepted_at"] < 5000


# --- by nothing ------------------------------------------------------------------------------------------------------


async def test_a_submission_that_is_made_anew_on_purpose_waits_for_a_paused_lane(tmp_path):
    async with by_hand(tmp_path, mock_recovery="none", on_unknown_submit="resubmit", **TIMES) as hand:
        generation_id = await hand.held()
        await hand.db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="a limit"))
        assert isinstance(await hand.take(Step.RESOLVE), Requeue)
        assert "submit.resubmit" in await hand.house.timeline(generation_id)
        assert (await hand.row("submission"))["outcome"] == "abandoned"
        await waits_and_then_goes_on(hand, generation_id)


async def test_a_call_whose_answer_came_meanwhile_is_stopped_upstream_by_a_cancel(tmp_path):
    async with by_hand(tmp_path, mock_recovery="none", **TIMES) as hand:
        generation_id = await hand.held(answered_at=None)
        token = (await hand.row("submission"))["token"]
        await hand.db.write(lambda tx: ledger.accept(tx, token, Operation("vid_1")))
        await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
        assert isinstance(await hand.take(Step.RESOLVE), Advance)
        await hand.take(Step.POLL)
        assert hand.script.calls["cancel"] == 1
        assert (await hand.house.get(generation_id))["status"] == "cancelled"
        assert (await hand.row("submission"))["outcome"] == "failed"
