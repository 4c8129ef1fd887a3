"""News of a paid call that come when another one is about to be made: what was taken is never paid for again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from pipeline.lifecycle import (
    Advance,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Fail,
    Fallback,
    Hold,
    Requeue,
    Retry,
    Snooze,
    Step,
)
from pipeline.workflow.arriving import accept
from providers.base import Operation
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import NOT_FOUND, RUNNING, Hand, Script, by_hand, say
from tests.pipeline.two_providers import CHAIN, pair

pytestmark = pytest.mark.anyio

SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}
TIMES = {"submit_timeout": 5, "generation_timeout": 60, "lease": 10}
OLD = {"intended_at": -3600.0, "answered_at": -3600.0}
House = Callable[..., AbstractAsyncContextManager[Hand]]


@pytest.fixture
def house(tmp_path: Path, place: Place) -> House:
    """A house on a scripted provider, on each engine."""
    return lambda **settings: by_hand(tmp_path, **SECRETS | TIMES | {"database_url": place.url} | settings)


async def ring(hand: Hand, token: str, operation: str) -> None:
    """The provider rings at the address that it was given for a call."""
    path = f"/callbacks/mock/{hand.house.plant.callbacks.seal(token)}"
    answer = await hand.house.api.post(path, json={"event_id": f"e{operation}", "id": operation, "status": "succeeded"})
    assert answer.status_code == 200, answer.text


async def closed_call(hand: Hand, said: str) -> tuple[str, str]:
    """A generation that waits for a new call since its first was closed; its id, and the first call's token."""
    generation_id = await hand.held(**OLD)
    hand.script.submit = [say(202, {"id": "vid_2"})]
    token = str((await hand.row("submission"))["token"])
    decision = await hand.take(Step.RESOLVE)
    if said == "person":
        answer = await hand.house.api.post(f"/api/generations/{generation_id}/resolve", json={"as": "not_taken"})
        assert answer.status_code == 200, answer.text
    else:
        assert isinstance(decision, Requeue)
    return generation_id, token


CLOSED = {
    "lookup": {"mock_recovery": "lookup", "on_unknown_submit": "hold"},
    "policy": {"mock_recovery": "callback", "on_unknown_submit": "resubmit"},
    "person": {"mock_recovery": "none", "on_unknown_submit": "hold"},
}


@pytest.mark.parametrize("said", list(CLOSED))
async def test_what_a_callback_names_is_taken_up_and_not_paid_for_again(house: House, said: str) -> None:
    async with house(**CLOSED[said]) as hand:
        generation_id, token = await closed_call(hand, said)
        await ring(hand, token, "vid_1")
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert hand.script.calls["submit"] == 1, "no second call"
        assert (await hand.house.get(generation_id))["stage"] == "generating"
        for step in (Step.POLL, Step.STORE):
            await hand.take(step)
        assert (await hand.house.get(generation_id))["status"] == "completed"
        row = await hand.row("submission")
        assert (row["outcome"], row["operation_id"]) == ("succeeded", "vid_1")


async def test_a_name_that_the_provider_does_not_know_delays_the_call_and_no_more(house: House) -> None:
    async with house(**CLOSED["lookup"]) as hand:
        _, token = await closed_call(hand, "lookup")
        await ring(hand, token, "made_up")
        hand.script.poll = [NOT_FOUND]
        for _ in range(5):
            assert isinstance(await hand.take(Step.SUBMIT), Snooze)
        assert hand.script.calls["submit"] == 1
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert hand.script.calls["submit"] == 2


async def test_news_that_come_while_a_call_is_prepared_go_before_it(house: House) -> None:
    async with house(**CLOSED["lookup"]) as hand:
        _, token = await closed_call(hand, "lookup")
        turn = await hand.begin(Step.SUBMIT)
        await ring(hand, token, "vid_1")
        assert isinstance(await hand.record(turn, await hand.run(turn)), Snooze)
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        assert hand.script.calls["submit"] == 1


async def test_a_cancel_stops_what_turns_up_before_the_next_call(house: House) -> None:
    async with house(**CLOSED["lookup"]) as hand:
        generation_id, token = await closed_call(hand, "lookup")
        await ring(hand, token, "vid_1")
        hand.script.poll = [RUNNING]
        turn = await hand.begin(Step.SUBMIT)
        report = await hand.run(turn)
        await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
        assert isinstance(await hand.record(turn, report), Advance)
        assert await hand.take(Step.POLL) == Cancel()
        assert hand.script.calls["cancel"] == 1
        assert hand.script.calls["submit"] == 1


async def test_a_cancel_of_what_waits_still_looks_after_what_was_named(house: House) -> None:
    async with house(**CLOSED["lookup"]) as hand:
        generation_id, token = await closed_call(hand, "lookup")
        await ring(hand, token, "vid_1")
        hand.script.poll = [RUNNING]
        await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
        assert (await hand.house.get(generation_id))["status"] == "cancelled"
        assert await late_turns(hand) == Cancel()
        assert hand.script.calls["cancel"] == 1


async def test_an_answer_that_comes_while_its_generation_waits_ends_the_wait(house: House) -> None:
    async with house(**CLOSED["person"], spend_per_user_day="0.40") as hand:
        generation_id, token = await closed_call(hand, "person")
        before = await hand.row("generation")
        await hand.db.write(lambda tx: accept(tx, before, token, Operation("vid_1")))
        seen = await hand.house.get(generation_id)
        assert (seen["status"], seen["stage"]) == ("processing", "generating")
        assert isinstance(await hand.take(Step.POLL), Advance)
        assert hand.script.calls["submit"] == 1


# --- work is asked for where it was taken ----------------------------------------------------------------------------


async def test_a_redrive_asks_the_provider_that_has_the_work(tmp_path: Path) -> None:
    async with pair(tmp_path, mock_recovery="none", **TIMES) as (hand, spare):
        hand.script.poll, hand.script.cancel = [RUNNING], [say(409)]
        generation_id = (await hand.house.submit("a fox", **CHAIN))["id"]
        await hand.take(Step.SUBMIT)
        await hand.change("generation", accepted_at=-3600.0)
        assert isinstance(await hand.take(Step.POLL), DeadLetter)
        await again(hand, generation_id, allowRepay=True, **{"from": "submit"})
        hand.script.submit, spare.submit, spare.poll = [say(402)], [say(422)], [NOT_FOUND]
        for _ in range(2):
            await hand.take(Step.SUBMIT)
        assert (await hand.row("generation"))["provider"] == "spare"
        hand.script.poll = []
        assert (await again(hand, generation_id))["redrive"]["from"] == "poll"
        assert isinstance(await hand.take(Step.POLL), Advance)
        assert await hand.take(Step.STORE) == Complete()
        assert spare.calls["poll"] == 0
        row = await hand.row("generation")
        assert (row["provider"], row["candidate"], row["status"]) == ("mock", 0, "completed")


async def test_late_work_is_looked_after_at_the_provider_that_has_it(tmp_path: Path) -> None:
    settings = {"mock_recovery": "callback", "on_unknown_submit": "resubmit", "late_results": "keep"} | TIMES
    async with pair(tmp_path, lane_pause=30.0, **settings) as (hand, spare):
        hand.script.submit = [say(500)]
        generation_id = (await hand.house.submit("a fox", **CHAIN))["id"]
        await hand.take(Step.SUBMIT)
        await hand.change("submission", **OLD)
        token = str((await hand.row("submission"))["token"])
        await hand.take(Step.RESOLVE)
        hand.script.submit, spare.submit, spare.poll = [say(402)], [say(422)], [NOT_FOUND]
        assert isinstance(await hand.take(Step.SUBMIT), Fallback)
        assert isinstance(await hand.take(Step.SUBMIT), Fail)
        await ring(hand, token, "vid_1")
        decision = None
        for _ in range(6):
            decision = await hand.take(Step.LATE)
            if not isinstance(decision, Snooze):
                break
        assert decision == Complete()
        assert spare.calls["poll"] == spare.calls["cancel"] == 0
        row = await hand.db.read(lambda tx: tx.one("SELECT lane FROM job WHERE kind = 'generation'"))
        assert row is not None
        assert row["lane"] == "provider:mock"
        assert (await hand.house.get(generation_id))["result"] is not None


# --- a paid video is never hidden from a redrive ---------------------------------------------------------------------


async def again(hand: Hand, generation_id: str, **body: object) -> dict[str, Any]:
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/redrive", json=body)
    assert answer.status_code in {200, 202}, answer.text
    return dict(answer.json())


async def test_a_redrive_offers_the_video_of_an_earlier_run(house: House) -> None:
    async with house(store_attempts=1) as hand:
        hand.script.file = [say(503)]
        generation_id = (await hand.house.submit("a fox"))["id"]
        for step in (Step.SUBMIT, Step.POLL, Step.STORE):
            await hand.take(step)
        await again(hand, generation_id, allowRepay=True, **{"from": "submit"})
        refusal = {"status": "failed", "error": {"code": "moderation", "message": "no"}}
        hand.script.submit, hand.script.poll = [say(202, {"id": "vid_2"})], [say(200, refusal)]
        for step in (Step.SUBMIT, Step.POLL):
            await hand.take(step)
        plan = (await again(hand, generation_id, dryRun=True))["redrive"]
        assert (plan["from"], plan["estimatedCostMicros"]) == ("poll", 0)
        hand.script.poll, hand.script.file = [], Script().file
        await again(hand, generation_id)
        await hand.take(Step.POLL)
        assert await hand.take(Step.STORE) == Complete()
        assert hand.script.calls["submit"] == 2


async def test_a_second_operation_hides_no_video_from_a_redrive(house: House) -> None:
    async with house(mock_recovery="callback", store_attempts=1) as hand:
        hand.script.cancel, hand.script.file = [say(409)], [say(404)]
        generation_id = (await hand.house.submit("a fox"))["id"]
        await hand.take(Step.SUBMIT)
        await ring(hand, str((await hand.row("submission"))["token"]), "vid_other")
        for step in (Step.POLL, Step.STORE):
            await hand.take(step)
        assert (await again(hand, generation_id, dryRun=True))["redrive"]["from"] == "store"


# --- words and times -------------------------------------------------------------------------------------------------


async def test_the_wait_for_a_call_begins_when_the_one_before_is_done_with(house: House) -> None:
    async with house(**CLOSED["person"]) as hand:
        await hand.held(**OLD)
        await hand.change("generation", created_at=-2 * 86400.0)
        await closed_by_hand(hand, "not_taken")
        hand.script.submit = [say(202, {"id": "vid_2"})]
        assert isinstance(await hand.take(Step.SUBMIT), Advance)


async def test_who_waits_anew_for_money_does_not_come_and_go(house: House) -> None:
    async with house(**CLOSED["person"], spend_per_user_day="0.40") as hand:
        await hand.held(**OLD)
        await hand.change("generation", created_at=-2 * 86400.0)
        await closed_by_hand(hand, "not_taken")
        await hand.db.write(lambda tx: tx.run("UPDATE job SET sort_at = sort_at + 10000000"))
        hand.script.submit = [say(202, {"id": "vid_2"})]
        await hand.house.submit("another")
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        states = await hand.db.read(lambda tx: tx.all("SELECT status FROM job WHERE kind = 'generation' ORDER BY id"))
        assert [row["status"] for row in states] == ["waiting", "pending"]


async def test_refusals_do_not_prolong_the_wait_for_a_call(house: House) -> None:
    async with house(lane_pause=0.1) as hand:
        await hand.house.submit("a fox")
        hand.script.submit = [say(429)]
        assert isinstance(await hand.take(Step.SUBMIT), Requeue)
        await hand.change("generation", created_at=-2 * 86400.0)
        await hand.change("lane", paused_until=None)
        assert isinstance(await hand.take(Step.SUBMIT), DeadLetter)


async def closed_by_hand(hand: Hand, said: str) -> None:
    """The one generation's call is parked, and a person says what became of it."""
    assert isinstance(await hand.take(Step.RESOLVE), Hold)
    path = f"/api/generations/{(await hand.row('generation'))['id']}/resolve"
    answer = await hand.house.api.post(path, json={"as": said})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("said", "outcome"), [("not_taken", "rejected"), ("abandon", "abandoned")])
async def test_a_call_that_a_person_closed_says_so(house: House, said: str, outcome: str) -> None:
    async with house(**CLOSED["person"]) as hand:
        await hand.held(**OLD)
        await closed_by_hand(hand, said)
        row = await hand.row("submission")
        assert (row["outcome"], row["error_code"]) == (outcome, "resolved_by_person")


async def test_an_acceptance_clears_the_error_that_was_believed(house: House) -> None:
    async with house(**CLOSED["person"]) as hand:
        await hand.held(**OLD)
        before, sent = await hand.row("generation"), await hand.row("submission")
        assert sent["error_code"] == "provider_unavailable"
        await hand.db.write(lambda tx: accept(tx, before, sent["token"], Operation("vid_1")))
        row = await hand.row("submission")
        assert (row["outcome"], row["error_code"], row["error_message"]) == ("accepted", None, None)


async def test_our_own_end_is_no_fault_of_the_provider(house: House) -> None:
    async with house(**CLOSED["person"]) as hand:
        generation_id = (await hand.house.submit("a fox"))["id"]
        await hand.run(await hand.begin(Step.SUBMIT))
        await hand.db.write(lambda tx: tx.run("UPDATE job SET locked_until = 0"))
        decision = await hand.take(Step.SUBMIT)
        assert isinstance(decision, Hold)
        assert decision.fault.code == "process_ended"
        assert (await hand.row("submission"))["error_code"] == "process_ended"
        assert (await hand.row("generation"))["error_code"] == "process_ended"
        await hand.change("submission", **OLD)
        assert await hand.take(Step.RESOLVE) == Hold(None, ANY)
        assert (await hand.house.timeline(generation_id)).count("held") == 1


# --- dead letters that are rung about --------------------------------------------------------------------------------


async def dead(hand: Hand) -> list[dict[str, Any]]:
    return list((await hand.house.api.get("/api/queue/dead")).json()["data"])


async def late_turns(hand: Hand) -> Decision | None:
    """Late turns until one ends the job."""
    for _ in range(10):
        decision = await hand.take(Step.LATE)
        if not isinstance(decision, Snooze | Retry):
            return decision
    raise AssertionError("it looks for ever")


async def test_a_dead_letter_that_is_rung_about_stays_one(house: House) -> None:
    async with house(mock_recovery="callback", store_attempts=1) as hand:
        hand.script.cancel, hand.script.file = [say(409)], [say(404)]
        await hand.house.submit("a fox")
        for step in (Step.SUBMIT, Step.POLL, Step.STORE):
            await hand.take(step)
        (before,) = await dead(hand)
        await ring(hand, str((await hand.row("submission"))["token"]), "vid_other")
        assert isinstance(await late_turns(hand), DeadLetter)
        (after,) = await dead(hand)
        assert after["error"] == before["error"]
        assert after["error"]["code"] == "download_failed"


async def test_what_failed_for_good_becomes_no_dead_letter_by_a_ring(house: House) -> None:
    async with house(mock_recovery="callback") as hand:
        refusal = {"status": "failed", "error": {"code": "moderation", "message": "no"}}
        hand.script.poll, hand.script.cancel = [say(200, refusal)], [say(409)]
        await hand.house.submit("a fox")
        for step in (Step.SUBMIT, Step.POLL):
            await hand.take(step)
        await ring(hand, str((await hand.row("submission"))["token"]), "vid_other")
        hand.script.poll = []
        assert isinstance(await late_turns(hand), Fail)
        assert await dead(hand) == []


async def test_a_late_file_that_cannot_be_had_leaves_a_cancelled_generation_cancelled(house: House) -> None:
    async with house(late_results="keep", store_attempts=2) as hand:
        hand.script.cancel, hand.script.file, hand.script.poll = [say(409)], [say(404)], [RUNNING]
        generation_id = (await hand.house.submit("a fox"))["id"]
        await hand.take(Step.SUBMIT)
        await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
        assert isinstance(await hand.take(Step.POLL), Cancel)
        hand.script.poll = []
        assert await late_turns(hand) == Cancel()
        assert await dead(hand) == []
