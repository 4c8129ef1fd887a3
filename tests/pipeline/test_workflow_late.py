"""After the end: what a cancel truly says, what still comes in, and operations that nobody counted on."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from unittest.mock import ANY

import pytest

from pipeline import ledger
from pipeline.db import Row
from pipeline.lifecycle import Advance, Cancel, Complete, DeadLetter, Hold, Requeue, Retry, Snooze, Step
from pipeline.workflow.arriving import accept
from providers.base import ErrorCode, Operation, ProviderError
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import NOT_FOUND, RUNNING, Hand, by_hand, say

pytestmark = pytest.mark.anyio

SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}
WORKS_ON = say(200, {"status": "running"})
TIMES = {"submit_timeout": 5, "generation_timeout": 60, "lease": 10}
House = Callable[..., AbstractAsyncContextManager[Hand]]


@pytest.fixture
def house(tmp_path, place: Place) -> House:
    """A house on a scripted provider, on each engine."""
    return lambda **settings: by_hand(tmp_path, **SECRETS | TIMES | {"database_url": place.url} | settings)


@pytest.fixture
async def keeping(house: House) -> AsyncIterator[Hand]:
    async with house(late_results="keep") as hand:
        yield hand


@pytest.fixture
async def dropping(house: House) -> AsyncIterator[Hand]:
    async with house() as hand:
        yield hand


async def cancel(hand: Hand, generation_id: str) -> dict[str, Any]:
    answer = await hand.house.api.post(f"/api/generations/{generation_id}/cancel")
    assert answer.status_code in {200, 202}
    body: dict[str, Any] = answer.json()
    return body


async def job(hand: Hand) -> Row:
    row = await hand.db.read(lambda tx: tx.one("SELECT * FROM job WHERE kind = 'generation'"))
    assert row is not None
    return row


async def line(hand: Hand, generation_id: str, name: str) -> dict[str, Any]:
    """What the timeline says under a name."""
    body = (await hand.house.api.get(f"/api/generations/{generation_id}/events")).json()
    (found,) = [each["detail"] for each in body["data"] if each["event"] == name]
    return dict(found)


async def told(hand: Hand, generation_id: str) -> list[dict[str, Any]]:
    """The terminal events of a generation."""
    sql = "SELECT body FROM webhook_event WHERE generation_id = :id AND terminal = 1"
    rows = await hand.db.read(lambda tx: tx.all(sql, {"id": generation_id}))
    return [json.loads(row["body"]) for row in rows]


async def submissions(hand: Hand) -> list[tuple[str, str, int | None]]:
    rows = await hand.db.read(lambda tx: tx.all("SELECT * FROM submission ORDER BY id"))
    return [(row["outcome"], row["billed"], row["cost_micros"]) for row in rows]


async def not_stopped(hand: Hand) -> str:
    """A generation that was cancelled, and whose provider works on."""
    generation_id = await hand.generating()
    hand.script.cancel = [WORKS_ON]
    assert (await cancel(hand, generation_id))["billed"] == "unknown"
    hand.script.poll = [RUNNING]
    assert isinstance(await hand.take(Step.POLL), Cancel)
    return generation_id


# --- what a cancel says ----------------------------------------------------------------------------------------------


async def test_what_was_never_submitted_is_surely_not_billed(dropping: Hand) -> None:
    asked = await dropping.house.submit("a fox")
    assert asked["billed"] is None
    body = await cancel(dropping, asked["id"])
    assert (body["status"], body["billed"]) == ("cancelled", "no")
    assert [event["data"]["billed"] for event in await told(dropping, asked["id"])] == ["no"]
    assert (await line(dropping, asked["id"], "ended.cancelled"))["billed"] == "no"


@pytest.mark.parametrize(("charged", "billed"), [(None, "unknown"), (True, "yes"), (False, "no")])
async def test_what_was_stopped_is_billed_as_the_provider_says(dropping: Hand, charged, billed) -> None:
    generation_id = await dropping.generating()
    words = {"status": "cancelled"} | ({} if charged is None else {"charged_micros": 500 if charged else 0})
    dropping.script.cancel = [say(200, words)]
    await cancel(dropping, generation_id)
    assert await dropping.take(Step.POLL) == Cancel()
    ended = await dropping.house.get(generation_id)
    detail = await line(dropping, generation_id, "cancelled")
    assert detail["provider_stopped"] is True
    assert ended["billed"] == detail["billed"]
    assert [event["data"]["billed"] for event in await told(dropping, generation_id)] == [ended["billed"]]


async def test_what_is_dropped_is_unknown_and_says_why(dropping: Hand) -> None:
    generation_id = await not_stopped(dropping)
    detail = await line(dropping, generation_id, "cancelled")
    assert (detail["provider_stopped"], detail["late_result"]) == (False, "dropped")
    assert "does not stop" in detail["reason"]
    assert (await dropping.house.get(generation_id))["billed"] == "unknown"
    assert (await submissions(dropping))[0][:2] == ("failed", "unknown")
    assert (await job(dropping))["status"] == "cancelled", "nothing more is asked"


async def test_an_unreachable_provider_is_named_as_the_reason(dropping: Hand) -> None:
    generation_id = await dropping.generating()
    dropping.script.cancel = [say(503)]
    await cancel(dropping, generation_id)
    await dropping.take(Step.POLL)
    assert "did not stop it" in (await line(dropping, generation_id, "cancelled"))["reason"]


async def test_an_open_unknown_call_leaves_it_unknown(house: House) -> None:
    async with house(mock_recovery="none") as hand:
        generation_id = await hand.held()
        assert (await cancel(hand, generation_id))["billed"] == "unknown"
        assert await hand.take(Step.RESOLVE) == Cancel()
        assert [event["data"]["billed"] for event in await told(hand, generation_id)] == ["unknown"]
        assert (await submissions(hand))[0][0] == "unknown", "it stays open in the ledger"


# --- what comes late -------------------------------------------------------------------------------------------------


async def test_a_late_video_is_kept_with_the_cancelled_generation(keeping: Hand) -> None:
    generation_id = await not_stopped(keeping)
    assert (await line(keeping, generation_id, "cancelled"))["late_result"] == "kept"
    assert ((await job(keeping))["status"], (await job(keeping))["step"]) == ("pending", "late")
    assert isinstance(await keeping.take(Step.LATE), Snooze)
    keeping.script.poll = []
    assert isinstance(await keeping.take(Step.LATE), Snooze)
    assert await keeping.take(Step.LATE) == Complete()
    ended = await keeping.house.get(generation_id)
    assert (ended["status"], ended["billed"], ended["stage"]) == ("cancelled", "yes", None)
    assert ended["result"]["sha256"]
    video = await keeping.house.api.get(ended["result"]["videoUrl"])
    assert (video.status_code, len(video.content)) == (200, ended["result"]["bytes"])
    assert [event["type"] for event in await told(keeping, generation_id)] == ["generation.cancelled"]
    assert "late.kept" in await keeping.house.timeline(generation_id)
    assert ((await job(keeping))["status"], await submissions(keeping)) == ("done", [("succeeded", "yes", 400_000)])


async def test_a_video_that_was_being_stored_when_its_cancel_came_is_kept_too(keeping: Hand) -> None:
    generation_id = await keeping.generating()
    assert isinstance(await keeping.take(Step.POLL), Advance)
    assert (await cancel(keeping, generation_id))["billed"] == "yes"
    assert isinstance(await keeping.take(Step.STORE), Cancel)
    assert await keeping.take(Step.LATE) == Complete()
    ended = await keeping.house.get(generation_id)
    assert (ended["status"], bool(ended["result"])) == ("cancelled", True)


async def test_what_ran_into_its_deadline_is_looked_after_once_more(keeping: Hand) -> None:
    generation_id = await keeping.generating(for_seconds=61)
    keeping.script.poll, keeping.script.cancel = [RUNNING], [WORKS_ON]
    assert isinstance(await keeping.take(Step.POLL), DeadLetter)
    failed = await keeping.house.get(generation_id)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "deadline_exceeded")
    keeping.script.poll = []
    await keeping.take(Step.LATE)
    assert await keeping.take(Step.LATE) == Complete()
    ended = await keeping.house.get(generation_id)
    assert (ended["status"], bool(ended["result"]), ended["billed"]) == ("failed", True, "yes")
    assert [event["type"] for event in await told(keeping, generation_id)] == ["generation.failed"]


async def test_what_does_not_come_by_the_last_deadline_is_a_dead_letter_as_before(keeping: Hand) -> None:
    generation_id = await keeping.generating(for_seconds=61)
    keeping.script.poll, keeping.script.cancel = [RUNNING], [WORKS_ON]
    await keeping.take(Step.POLL)
    assert (await keeping.house.api.get("/api/queue/dead")).json()["data"] == [], "it is still waited for"
    assert isinstance(await keeping.take(Step.LATE), Snooze)
    await keeping.change("generation", finished_at=-61)
    assert isinstance(await keeping.take(Step.LATE), DeadLetter)
    (letter,) = (await keeping.house.api.get("/api/queue/dead")).json()["data"]
    assert (letter["id"], letter["error"]["code"]) == (generation_id, "deadline_exceeded")
    assert (await submissions(keeping))[0][:2] == ("failed", "unknown")


async def test_a_late_refusal_tells_what_was_billed(keeping: Hand) -> None:
    generation_id = await not_stopped(keeping)
    keeping.script.poll = [say(200, {"status": "failed", "error": {"code": "odd", "message": "no"}})]
    assert await keeping.take(Step.LATE) == Cancel()
    assert "late.ended" in await keeping.house.timeline(generation_id)
    assert ((await job(keeping))["status"], (await submissions(keeping))[0][0]) == ("cancelled", "failed")


async def test_blips_are_lived_through_until_the_deadline(keeping: Hand) -> None:
    await not_stopped(keeping)
    keeping.script.poll = [say(503)]
    for _ in range(4):
        assert isinstance(await keeping.take(Step.LATE), Snooze)
    await keeping.change("generation", finished_at=-61)
    assert await keeping.take(Step.LATE) == Cancel()


async def test_a_failing_storage_is_tried_again(keeping: Hand, tmp_path) -> None:
    await not_stopped(keeping)
    keeping.script.poll = []
    await keeping.take(Step.LATE)
    blocker = tmp_path / "files" / "default"
    blocker.parent.mkdir(exist_ok=True)
    blocker.write_text("a file where a folder must be")
    assert isinstance(await keeping.take(Step.LATE), Retry)
    blocker.unlink()
    assert await keeping.take(Step.LATE) == Complete()


async def test_work_that_is_looked_after_takes_no_place_and_shows_in_the_status(keeping: Hand) -> None:
    await not_stopped(keeping)
    status = (await keeping.house.api.get("/api/queue/status")).json()
    assert (status["held"], status["generations"]["byStep"]) == (0, {"late": 1})
    assert status["lanes"][0]["inFlight"] == 0


async def test_a_redrive_takes_over_from_the_late_look(keeping: Hand) -> None:
    generation_id = await keeping.generating(for_seconds=61)
    keeping.script.poll, keeping.script.cancel = [RUNNING], [WORKS_ON]
    await keeping.take(Step.POLL)
    turn = await keeping.begin(Step.LATE)
    report = await keeping.run(turn)
    answer = await keeping.house.api.post(f"/api/generations/{generation_id}/redrive")
    assert (answer.status_code, answer.json()["redrive"]["from"], answer.json()["billed"]) == (202, "poll", None)
    assert await keeping.record(turn, report) is None, "the turn has lost its lease"
    keeping.script.poll = []
    await keeping.take(Step.POLL)
    assert await keeping.take(Step.STORE) == Complete()
    assert (await keeping.house.get(generation_id))["status"] == "completed"
    assert [event["type"] for event in await told(keeping, generation_id)] == [
        "generation.failed",
        "generation.completed",
    ]


async def test_deleting_ends_the_look_and_waits_for_a_turn_of_it(keeping: Hand) -> None:
    generation_id = await not_stopped(keeping)
    turn = await keeping.begin(Step.LATE)
    path = f"/api/generations/{generation_id}"
    busy = await keeping.house.api.delete(path)
    assert (busy.status_code, busy.json()["code"]) == (409, "not_ended")
    await keeping.record(turn, await keeping.run(turn))
    assert (await keeping.house.api.delete(path)).status_code == 204
    assert (await submissions(keeping))[0][:2] == ("failed", "unknown")
    assert await keeping.db.read(lambda tx: tx.value("SELECT count(*) FROM job WHERE kind = 'generation'")) == 0


async def test_a_kept_video_expires_and_is_deleted_like_any_other(house: House) -> None:
    async with house(late_results="keep", keep_videos=30) as hand:
        generation_id = await not_stopped(hand)
        hand.script.poll = []
        await hand.take(Step.LATE)
        await hand.take(Step.LATE)
        assert (await hand.house.get(generation_id))["expiresAt"] is not None
        await hand.change("generation", expires_at=-1)
        assert (await hand.house.get(generation_id))["result"]["videoUrl"] is None
        assert (await hand.house.api.get(f"/api/generations/{generation_id}/content")).status_code == 410


# --- operations that nobody counted on -------------------------------------------------------------------------------


async def ring(hand: Hand, token: str, operation: str, event: str = "evt_1") -> None:
    """The provider rings at the address that it was given for a call."""
    path = f"/callbacks/mock/{hand.house.plant.callbacks.seal(token)}"
    answer = await hand.house.api.post(path, json={"event_id": event, "id": operation, "status": "succeeded"})
    assert answer.status_code == 200, answer.text


async def given_up(hand: Hand) -> str:
    """A generation whose call was given up by the policy `fail`."""
    generation_id = await hand.held(intended_at=-3600.0)
    assert isinstance(await hand.take(Step.RESOLVE), DeadLetter)
    assert (await hand.house.get(generation_id))["billed"] == "unknown"
    return generation_id


async def token_of(hand: Hand) -> str:
    return str((await hand.row("submission"))["token"])


@pytest.mark.parametrize("keep", [True, False])
async def test_a_callback_after_the_policy_repairs_the_ledger(house: House, keep: bool) -> None:
    async with house(mock_recovery="none", late_results="keep" if keep else "drop") as hand:
        generation_id = await given_up(hand)
        await ring(hand, await token_of(hand), "vid_7")
        assert (await submissions(hand))[0][0] == "abandoned", "a callback's word alone is not believed"
        hand.script.poll = [RUNNING]
        assert isinstance(await hand.take(Step.LATE), Snooze)
        assert (await submissions(hand))[0][0] == "accepted"
        assert "submit.late" in await hand.house.timeline(generation_id)
        if not keep:
            assert isinstance(await hand.take(Step.LATE), DeadLetter)
            plan = await hand.house.api.post(f"/api/generations/{generation_id}/redrive", json={"dryRun": True})
            assert plan.json()["redrive"]["from"] == "poll", "what was paid for can be had"
            return
        hand.script.poll = []
        for _ in range(2):
            assert isinstance(await hand.take(Step.LATE), Snooze)
        assert await hand.take(Step.LATE) == Complete()
        assert (await hand.house.get(generation_id))["result"] is not None
        assert len(await told(hand, generation_id)) == 1


async def test_a_name_that_the_provider_does_not_know_is_dropped_in_the_end(house: House) -> None:
    async with house(mock_recovery="none") as hand:
        await given_up(hand)
        await ring(hand, await token_of(hand), "made_up")
        hand.script.poll = [NOT_FOUND]
        decisions = [await hand.take(Step.LATE) for _ in range(6)]
        assert [type(each) for each in decisions] == [Snooze] * 5 + [DeadLetter]
        assert (await hand.row("submission"))["candidate_operation_id"] is None
        assert (await submissions(hand))[0][0] == "abandoned"


async def test_a_cancelled_call_that_turns_out_taken_is_stopped_then(house: House) -> None:
    async with house(mock_recovery="none") as hand:
        generation_id = await hand.held()
        await cancel(hand, generation_id)
        await hand.take(Step.RESOLVE)
        await ring(hand, await token_of(hand), "vid_7")
        hand.script.poll, hand.script.cancel = [RUNNING], [say(200, {"status": "cancelled", "charged_micros": 0})]
        await hand.take(Step.LATE)
        assert await hand.take(Step.LATE) == Cancel()
        assert hand.script.calls["cancel"] == 1
        assert (await submissions(hand))[0][0] == "failed"
        assert "late.cancelled" in await hand.house.timeline(generation_id)


async def answered_late(hand: Hand, token: str, operation: str) -> None:
    """The answer to an old call comes by a process that lost its lease long ago."""
    row = await hand.row("generation")
    await hand.db.write(lambda tx: accept(tx, row, token, Operation(operation)))


@pytest.mark.parametrize("way", ["callback", "answer"])
async def test_a_second_operation_under_an_old_token_is_told_and_stopped(house: House, way: str, caplog) -> None:
    async with house(mock_recovery="lookup") as hand:
        generation_id = await hand.held(answered_at=-10.0)
        old = await token_of(hand)
        assert isinstance(await hand.take(Step.RESOLVE), Requeue), "the lookup found nothing"
        hand.script.submit = [say(202, {"id": "vid_2"})]
        assert isinstance(await hand.take(Step.SUBMIT), Advance)
        await (ring(hand, old, "vid_1") if way == "callback" else answered_late(hand, old, "vid_1"))
        hand.script.poll = [RUNNING]
        with caplog.at_level(logging.ERROR, logger="dailies"):
            assert isinstance(await hand.take(Step.POLL), Snooze)
        (told_once,) = [record for record in caplog.records if record.getMessage() == "submission.second"]
        assert told_once.fields["operation"] == "vid_1"
        assert hand.script.calls["cancel"] == 1
        assert [each[0] for each in await submissions(hand)] == ["failed", "accepted"]
        assert (await line(hand, generation_id, "submit.second"))["operation"] == "vid_1"
        await hand.take(Step.POLL)
        assert hand.script.calls["cancel"] == 1, "once"
        hand.script.poll = []
        await hand.take(Step.POLL)
        assert await hand.take(Step.STORE) == Complete()


async def test_a_second_operation_is_noticed_even_after_the_video_came(house: House, caplog) -> None:
    async with house(mock_recovery="lookup") as hand:
        generation_id = await hand.held(answered_at=-10.0)
        old = await token_of(hand)
        await hand.take(Step.RESOLVE)
        hand.script.submit = [say(202, {"id": "vid_2"})]
        await hand.take(Step.SUBMIT)
        await hand.take(Step.POLL)
        assert await hand.take(Step.STORE) == Complete()
        await ring(hand, old, "vid_1")
        await hand.take(Step.LATE)
        assert await hand.take(Step.LATE) == Complete()
        assert [record.getMessage() for record in caplog.records].count("submission.second") == 1
        assert sorted(each[0] for each in await submissions(hand)) == ["failed", "succeeded"]
        assert (await hand.house.get(generation_id))["status"] == "completed"
        assert len(await told(hand, generation_id)) == 1


async def test_a_second_operation_under_the_same_token_is_a_row_of_its_own(house: House) -> None:
    async with house(mock_recovery="callback") as hand:
        generation_id = await hand.generating()
        await ring(hand, await token_of(hand), "vid_9")
        hand.script.poll = [RUNNING]
        await hand.take(Step.POLL)
        rows = await hand.db.read(lambda tx: tx.all("SELECT operation_id, outcome FROM submission ORDER BY token"))
        assert [(row["operation_id"], row["outcome"]) for row in rows] == [("vid_1", "accepted"), ("vid_9", "failed")]
        assert "submit.second" in await hand.house.timeline(generation_id)


# --- races with a turn that gives up ---------------------------------------------------------------------------------


async def test_an_answer_that_comes_while_the_policy_gives_up_wins(house: House) -> None:
    async with house(mock_recovery="none") as hand:
        generation_id = await hand.held(intended_at=-3600.0)
        turn = await hand.begin(Step.RESOLVE)
        report = await hand.run(turn)
        await answered_late(hand, await token_of(hand), "vid_1")
        assert isinstance(await hand.record(turn, report), Advance)
        assert (await hand.house.get(generation_id))["stage"] == "generating"


async def test_a_callback_that_rings_while_the_policy_gives_up_is_looked_into(house: House) -> None:
    async with house(mock_recovery="none") as hand:
        await hand.held(intended_at=-3600.0)
        turn = await hand.begin(Step.RESOLVE)
        report = await hand.run(turn)
        await ring(hand, await token_of(hand), "vid_1")
        assert isinstance(await hand.record(turn, report), DeadLetter)
        hand.script.poll = [RUNNING]
        await hand.take(Step.LATE)
        assert (await submissions(hand))[0][0] == "accepted"


async def test_a_late_answer_wakes_what_was_parked(house: House) -> None:
    async with house(mock_recovery="none", on_unknown_submit="hold") as hand:
        asked = await hand.house.submit("a fox")
        frozen = await hand.begin(Step.SUBMIT)
        report = await hand.run(frozen)
        await hand.db.write(lambda tx: tx.run("UPDATE job SET locked_until = 0"))
        assert isinstance(await hand.take(Step.SUBMIT), Hold), "another process finds an intent without an answer"
        await hand.change("submission", intended_at=-3600.0)
        assert await hand.take(Step.RESOLVE) == Hold(None, ANY)
        assert await hand.record(frozen, report) is None
        assert (await job(hand))["step"] == "resolve"
        assert isinstance(await hand.take(Step.RESOLVE), Advance)
        assert (await hand.house.get(asked["id"]))["stage"] == "generating"


@pytest.mark.parametrize("outcome", ["abandoned", "rejected"])
async def test_a_call_that_was_given_up_never_leads_to_a_new_one_by_itself(house: House, outcome: str) -> None:
    """The turn that closed it lost its lease before its decision was kept."""
    async with house(mock_recovery="none") as hand:
        await hand.held()
        token, error = await token_of(hand), ProviderError(ErrorCode.TRANSIENT, "gone", billed=False)
        close = ledger.abandon if outcome == "abandoned" else ledger.reject
        await hand.db.write(lambda tx: close(tx, token, error))
        decision = await hand.take(Step.RESOLVE)
        assert isinstance(decision, DeadLetter if outcome == "abandoned" else Requeue)


async def test_a_callback_is_waited_for_only_where_the_provider_knows_where_to_ring(house: House) -> None:
    async with house(mock_recovery="callback", mock_speed=1) as hand:
        await hand.held(intended_at=-30.0)
        assert "callback" in (await hand.row("submission"))["carries"].split()
        assert isinstance(await hand.take(Step.RESOLVE), Snooze)
        await hand.change("submission", carries="")
        assert isinstance(await hand.take(Step.RESOLVE), DeadLetter)
