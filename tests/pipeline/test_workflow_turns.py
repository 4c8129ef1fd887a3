"""The stages after acceptance, a turn at a time: when polling gives up, how storing counts, what an end says."""

from __future__ import annotations

import json
import logging

import pytest
from starlette.responses import Response

from pipeline.lifecycle import Advance, Complete, DeadLetter, Fail, Requeue, Retry, Snooze, Step
from tests.pipeline.provider_script import NOT_FOUND, RUNNING, by_hand, say

pytestmark = pytest.mark.anyio

NO_VIDEO = Response(b"<html>sorry</html>", media_type="text/html")


# --- poll ------------------------------------------------------------------------------------------------------------


async def test_past_the_deadline_five_failed_polls_in_a_row_are_needed(tmp_path):
    async with by_hand(tmp_path, generation_timeout=60) as hand:
        generation_id = await hand.generating(for_seconds=3600)
        hand.script.poll = [say(401)]
        for _ in range(4):
            assert isinstance(await hand.take(Step.POLL), Retry)
        assert isinstance(await hand.take(Step.POLL), DeadLetter)
        error = (await hand.house.get(generation_id))["error"]
        assert (error["code"], error["retryable"]) == ("deadline_exceeded", False), "it may have been charged"


async def test_a_video_that_is_there_after_a_night_of_ours_is_fetched(tmp_path):
    async with by_hand(tmp_path, generation_timeout=60) as hand:
        await hand.generating(for_seconds=36_000)
        hand.script.poll = [say(429), say(401), say(401), say(401), RUNNING]
        for _ in range(4):
            assert isinstance(await hand.take(Step.POLL), Retry)
        hand.script.poll = []
        assert isinstance(await hand.take(Step.POLL), Advance)
        assert isinstance(await hand.take(Step.STORE), Complete)


async def test_work_that_still_runs_past_the_deadline_is_given_up_at_once(tmp_path):
    async with by_hand(tmp_path, generation_timeout=60) as hand:
        await hand.generating(for_seconds=61)
        hand.script.poll = [RUNNING]
        assert isinstance(await hand.take(Step.POLL), DeadLetter)
        assert hand.script.calls["cancel"] == 1


async def test_failed_polls_before_the_deadline_are_forgotten_with_the_next_answer(tmp_path):
    async with by_hand(tmp_path, generation_timeout=60) as hand:
        await hand.generating(for_seconds=50)
        hand.script.poll = [say(401), say(401), say(401), say(401), RUNNING]
        for _ in range(4):
            assert isinstance(await hand.take(Step.POLL), Retry)
        assert isinstance(await hand.take(Step.POLL), Snooze)
        await hand.change("generation", accepted_at=-61)
        hand.script.poll = [say(401)]
        assert isinstance(await hand.take(Step.POLL), Retry), "the first in a row"


async def test_an_operation_is_unknown_when_nothing_else_is_said_five_times(tmp_path):
    async with by_hand(tmp_path) as hand:
        await hand.generating()
        for between in (say(503), say(401), say(429), RUNNING):
            hand.script.poll = [NOT_FOUND]
            for _ in range(4):
                assert isinstance(await hand.take(Step.POLL), Retry)
            hand.script.poll = [between]
            assert isinstance(await hand.take(Step.POLL), Retry | Snooze)
        hand.script.poll = [NOT_FOUND]
        for _ in range(4):
            assert isinstance(await hand.take(Step.POLL), Retry)
        assert isinstance(await hand.take(Step.POLL), DeadLetter)


async def test_other_failures_do_not_make_an_operation_unknown(tmp_path):
    async with by_hand(tmp_path) as hand:
        await hand.generating()
        hand.script.poll = [say(503), say(401), say(503), say(401), NOT_FOUND, NOT_FOUND, say(503)]
        for _ in range(7):
            assert isinstance(await hand.take(Step.POLL), Retry)
        hand.script.poll = []
        assert isinstance(await hand.take(Step.POLL), Advance)
        assert "not_found" not in json.loads((await hand.row("generation"))["operation"])


@pytest.mark.parametrize(("status", "decision"), [(429, Snooze), (503, Retry), (401, Retry)])
@pytest.mark.parametrize(("elapsed", "least", "most"), [(10, 45, 50), (55, 4, 5), (59.9, 0, 1.01)])
async def test_what_a_failed_poll_asks_for_never_reaches_beyond_the_deadline(
    tmp_path, status, decision, elapsed, least, most
):
    async with by_hand(tmp_path, generation_timeout=60, poll_interval_max=0.1) as hand:
        await hand.generating(for_seconds=elapsed)
        hand.script.poll = [say(status, retry_after="86400")]
        taken = await hand.take(Step.POLL)
        assert isinstance(taken, decision)
        assert least <= taken.delay <= most


async def test_what_a_failed_poll_asks_for_within_the_deadline_is_honoured(tmp_path):
    async with by_hand(tmp_path, generation_timeout=60) as hand:
        await hand.generating(for_seconds=10)
        hand.script.poll = [say(429, retry_after="30")]
        assert await hand.take(Step.POLL) == Snooze(30.0)


# --- store -----------------------------------------------------------------------------------------------------------


async def stored_operation(hand):
    return json.loads((await hand.row("generation"))["operation"])


async def test_the_third_file_that_is_no_video_is_final(tmp_path):
    async with by_hand(tmp_path, store_attempts=1000) as hand:
        generation_id = await hand.generating()
        await hand.take(Step.POLL)
        hand.script.file = [NO_VIDEO]
        for bad in (1, 2):
            assert isinstance(await hand.take(Step.STORE), Retry)
            assert (await stored_operation(hand))["bad_files"] == bad
        assert isinstance(await hand.take(Step.STORE), DeadLetter)
        error = (await hand.house.get(generation_id))["error"]
        assert (error["code"], error["retryable"]) == ("invalid_media", False)


async def test_failures_of_the_storage_are_counted_apart_from_those_of_the_file(tmp_path):
    async with by_hand(tmp_path) as hand:
        await hand.generating()
        await hand.take(Step.POLL)
        good, hand.script.file = hand.script.file, [NO_VIDEO]
        for _ in range(2):
            assert isinstance(await hand.take(Step.STORE), Retry)
        hand.script.file = good
        blocker = tmp_path / "files" / "default"
        blocker.parent.mkdir(exist_ok=True)
        blocker.write_text("a file where a folder must be")
        for _ in range(15):
            assert isinstance(await hand.take(Step.STORE), Retry)
        assert ((await stored_operation(hand))["bad_files"], (await hand.row("job"))["attempts"]) == (2, 17)
        blocker.unlink()
        assert isinstance(await hand.take(Step.STORE), Complete)


async def test_storage_failures_end_with_the_last_of_the_store_attempts(tmp_path):
    async with by_hand(tmp_path, store_attempts=2) as hand:
        generation_id = await hand.generating()
        await hand.take(Step.POLL)
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / "default").write_text("a file where a folder must be")
        assert isinstance(await hand.take(Step.STORE), Retry)
        assert isinstance(await hand.take(Step.STORE), DeadLetter)
        error = (await hand.house.get(generation_id))["error"]
        assert (error["code"], error["retryable"]) == ("storage_failed", False), "the video was paid for"


# --- what an end says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "retryable"), [(None, True), (0, True), (70_000, False)])
async def test_a_failure_may_be_asked_for_anew_only_if_it_surely_cost_nothing(tmp_path, cost, retryable):
    async with by_hand(tmp_path, max_submissions=1) as hand:
        generation_id = await hand.generating()
        failed = {"status": "failed", "error": {"code": "internal", "message": "chance"}, "cost_micros": cost}
        hand.script.poll = [say(200, failed)]
        assert isinstance(await hand.take(Step.POLL), Fail)
        assert (await hand.house.get(generation_id))["error"]["retryable"] == retryable
        assert (await hand.row("submission"))["billed"] == ("no" if retryable else "yes")


async def test_a_reported_cost_forbids_a_new_submission(tmp_path):
    """The adapter declares `internal` unbilled; this provider says otherwise, and is believed."""
    failed = {"status": "failed", "error": {"code": "internal", "message": "chance"}}
    async with by_hand(tmp_path) as hand:
        await hand.generating()
        hand.script.poll = [say(200, failed | {"cost_micros": 1})]
        assert isinstance(await hand.take(Step.POLL), Fail)
    async with by_hand(tmp_path / "free") as hand:
        await hand.generating()
        hand.script.poll = [say(200, failed | {"cost_micros": 0})]
        assert isinstance(await hand.take(Step.POLL), Requeue)


async def test_a_cancel_during_a_turn_is_in_the_event_of_its_end(tmp_path):
    async with by_hand(tmp_path) as hand:
        generation_id = await hand.generating()
        await hand.take(Step.POLL)
        turn = await hand.begin(Step.STORE)
        report = await hand.run(turn)
        assert (await hand.house.api.post(f"/api/generations/{generation_id}/cancel")).status_code == 202
        assert isinstance(await hand.record(turn, report), Complete)
        event = await hand.row("webhook_event")
        told = json.loads(event["body"])
        assert (told["type"], told["data"]["status"]) == ("generation.completed", "completed")
        assert told["data"]["cancelRequested"] is True
        assert told["data"]["sequence"] == event["sequence"]


# --- a provider that this worker does not know -----------------------------------------------------------------------


async def test_an_unsubmitted_generation_of_an_unknown_provider_fails(tmp_path):
    async with by_hand(tmp_path) as hand:
        asked = await hand.house.submit("a fox")
        await hand.change("generation", provider="veo")
        assert isinstance(await hand.take(Step.SUBMIT), Fail)
        assert (await hand.house.get(asked["id"]))["error"]["code"] == "provider_not_configured"
        assert hand.script.calls["submit"] == 0


async def test_paid_work_that_stands_at_submit_is_polled_and_not_paid_again(tmp_path):
    async with by_hand(tmp_path) as hand:
        await hand.generating()
        for table in ("generation", "submission"):
            await hand.change(table, provider="veo")
        await hand.change("job", step=Step.SUBMIT)
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert isinstance(await hand.take(Step.POLL), Snooze)
        assert hand.script.calls["submit"] == 1
        assert (await hand.row("submission"))["outcome"] == "accepted"


@pytest.mark.parametrize("step", [Step.RESOLVE, Step.POLL, Step.STORE])
async def test_paid_work_of_an_unknown_provider_is_left_alone(tmp_path, step, caplog):
    async with by_hand(tmp_path) as hand:
        generation_id = await hand.generating()
        for table in ("generation", "submission"):
            await hand.change(table, provider="veo")
        await hand.change("job", step=step)
        before = await hand.house.get(generation_id)
        with caplog.at_level(logging.WARNING, logger="dailies"):
            assert isinstance(await hand.take(step), Snooze)
        assert await hand.house.get(generation_id) | {"updatedAt": None} == before | {"updatedAt": None}
        assert (await hand.row("submission"))["outcome"] == "accepted"
        assert [record.getMessage() for record in caplog.records] == ["provider.missing"]
        for table in ("generation", "submission"):
            await hand.change(table, provider="mock")
        await hand.change("job", step="poll")
        assert isinstance(await hand.take(Step.POLL), Advance)
