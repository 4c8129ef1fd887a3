"""Redrive: a failed generation goes on where it failed, and nobody pays twice for it unasked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response

from pipeline.db import Row, Tx
from pipeline.lifecycle import Advance, Complete, DeadLetter, Fail, Requeue, Snooze, Step
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import NOT_FOUND, RUNNING, Hand, by_hand, say

pytestmark = pytest.mark.anyio

SECRETS = {name: SETTINGS[name] for name in ("secret_key", "webhook_secret")}
REFUSED = say(200, {"status": "failed", "error": {"code": "odd", "message": "no"}})


@pytest.fixture
async def hand(tmp_path, place: Place) -> AsyncIterator[Hand]:
    async with by_hand(tmp_path, **SECRETS, database_url=place.url, store_attempts=1, max_attempts=1) as found:
        yield found


async def redrive(hand: Hand, generation_id: str, **body: Any) -> tuple[int, dict[str, Any]]:
    response = await hand.house.api.post(f"/api/generations/{generation_id}/redrive", json=body)
    return response.status_code, response.json()


async def refused(hand: Hand, generation_id: str, **body: Any) -> str:
    status, problem = await redrive(hand, generation_id, **body)
    assert status == 409
    code: str = problem["code"]
    return code


async def job(hand: Hand) -> Row:
    """The job of the one generation."""
    row = await hand.db.read(lambda tx: tx.one("SELECT * FROM job WHERE kind = 'generation'"))
    assert row is not None
    return row


async def events(hand: Hand, generation_id: str) -> list[tuple[int, str]]:
    sql = "SELECT run, type FROM webhook_event WHERE generation_id = :id AND terminal = 1 ORDER BY run"
    rows = await hand.db.read(lambda tx: tx.all(sql, {"id": generation_id}))
    return [(row["run"], row["type"]) for row in rows]


async def refused_by_the_provider(hand: Hand) -> str:
    """A generation that was taken, and ended without a word on what it cost."""
    generation_id = await hand.generating()
    hand.script.poll = [REFUSED]
    assert isinstance(await hand.take(Step.POLL), Fail)
    hand.script.poll = []
    return generation_id


async def bad_file(hand: Hand) -> str:
    """A generation whose file was no video."""
    generation_id = await hand.generating()
    good = hand.script.file
    hand.script.file = [Response("<html>", media_type="video/mp4")]
    await hand.take(Step.POLL)
    assert isinstance(await hand.take(Step.STORE), DeadLetter)
    hand.script.file = good
    return generation_id


async def test_a_file_that_was_not_stored_is_stored_and_nothing_is_paid(hand):
    generation_id = await bad_file(hand)
    fence = (await job(hand))["fence"]
    status, body = await redrive(hand, generation_id)
    assert status == 202
    assert body["redrive"] == {
        "from": "store",
        "estimatedCostMicros": 0,
        "possiblyPaidMicros": body["redrive"]["possiblyPaidMicros"],
        "needsAllowRepay": False,
    }
    assert body["redrive"]["possiblyPaidMicros"] > 0
    assert (body["status"], body["stage"], body["run"], body["error"]) == ("processing", "storing", 2, None)
    assert body["completedAt"] is None
    again = await job(hand)
    assert (again["attempts"], again["claims_unrecorded"], again["fence"]) == (0, 0, fence)
    assert await hand.take(Step.STORE) == Complete()
    assert (await job(hand))["fence"] == fence + 1
    ended = await hand.house.get(generation_id)
    assert (ended["status"], ended["run"], hand.script.calls["submit"]) == ("completed", 2, 1)
    assert await events(hand, generation_id) == [(1, "generation.failed"), (2, "generation.completed")]
    assert "redriven" in await hand.house.timeline(generation_id)


async def test_the_count_of_bad_files_begins_anew(hand):
    generation_id = await bad_file(hand)
    hand.script.file = [Response("<html>", media_type="video/mp4")]
    for run in (2, 3, 4):
        assert (await redrive(hand, generation_id))[1]["redrive"]["from"] == "store"
        assert isinstance(await hand.take(Step.STORE), DeadLetter)
        assert '"bad_files": 1' in (await hand.row("generation"))["operation"], run


async def test_work_that_the_provider_still_has_is_polled(hand):
    generation_id = await hand.generating()
    hand.script.poll = [NOT_FOUND]
    while not isinstance(await hand.take(Step.POLL), DeadLetter):
        pass
    hand.script.poll = []
    status, body = await redrive(hand, generation_id)
    assert (status, body["redrive"]["from"], body["redrive"]["estimatedCostMicros"]) == (202, "poll", 0)
    assert (body["status"], body["stage"]) == ("processing", "generating")
    assert isinstance(await hand.take(Step.POLL), Advance)
    assert await hand.take(Step.STORE) == Complete()
    assert hand.script.calls["submit"] == 1
    assert [row["run"] for row in await hand.db.read(lambda tx: tx.all("SELECT run FROM submission"))] == [1]


async def test_work_that_was_stopped_at_its_deadline_is_made_anew_and_only_if_told_to(hand):
    generation_id = await hand.generating(for_seconds=100_000)
    hand.script.poll = [RUNNING]
    assert isinstance(await hand.take(Step.POLL), DeadLetter)
    assert await refused(hand, generation_id) == "repay_needed"
    status, body = await redrive(hand, generation_id, allowRepay=True)
    assert (status, body["redrive"]["from"]) == (202, "submit")


async def test_past_its_deadline_the_work_that_goes_on_gets_a_new_one(hand):
    generation_id = await hand.generating(for_seconds=100_000)
    hand.script.poll = [RUNNING]
    hand.script.cancel = [say(409)]
    assert isinstance(await hand.take(Step.POLL), DeadLetter)
    assert (await hand.row("submission"))["outcome"] == "failed"
    assert (await redrive(hand, generation_id))[1]["redrive"]["from"] == "poll"
    assert (await hand.row("submission"))["outcome"] == "accepted"
    assert isinstance(await hand.take(Step.POLL), Snooze)
    hand.script.poll = []
    await hand.take(Step.POLL)
    assert await hand.take(Step.STORE) == Complete()
    submission = await hand.row("submission")
    assert (submission["outcome"], submission["billed"]) == ("succeeded", "yes")


async def test_what_was_refused_is_submitted_anew_without_a_word_about_money(hand):
    hand.script.submit = [say(400), say(202, {"id": "vid_2"})]
    made = await hand.house.submit("x", parameters={"duration": 4})
    assert isinstance(await hand.take(Step.SUBMIT), Fail)
    status, body = await redrive(hand, made["id"])
    plan = body["redrive"]
    assert (status, plan["from"], plan["possiblyPaidMicros"], plan["needsAllowRepay"]) == (202, "submit", None, False)
    assert plan["estimatedCostMicros"] > 0
    assert (body["status"], body["stage"], body["startedAt"]) == ("queued", "waiting", None)
    assert isinstance(await hand.take(Step.SUBMIT), Advance)
    assert hand.script.calls["submit"] == 2


async def test_to_pay_again_needs_a_word(hand):
    generation_id = await refused_by_the_provider(hand)
    status, problem = await redrive(hand, generation_id)
    assert (status, problem["code"]) == (409, "repay_needed")
    plan = problem["redrive"]
    assert (plan["from"], plan["needsAllowRepay"]) == ("submit", True)
    assert plan["possiblyPaidMicros"] == plan["estimatedCostMicros"] > 0
    assert "allowRepay" in problem["detail"]
    assert (await hand.house.get(generation_id))["run"] == 1
    status, body = await redrive(hand, generation_id, allowRepay=True)
    assert (status, body["status"], body["redrive"]) == (202, "queued", plan)
    await hand.take(Step.SUBMIT)
    assert hand.script.calls["submit"] == 2


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(hand):
    generation_id = await refused_by_the_provider(hand)
    before = await hand.house.get(generation_id)
    status, body = await redrive(hand, generation_id, dryRun=True)
    plan = body.pop("redrive")
    assert (status, plan["from"], plan["needsAllowRepay"]) == (200, "submit", True)
    assert body == before == await hand.house.get(generation_id)
    assert (await job(hand))["status"] == "done"


async def test_a_call_that_nobody_knows_of_counts_as_paid(hand):
    generation_id = await hand.held(intended_at=-1e6, answered_at=-1e6)
    hand.script.lookup = [say(500)]
    assert isinstance(await hand.take(Step.RESOLVE), DeadLetter)
    assert await refused(hand, generation_id) == "repay_needed"

    late = "UPDATE submission SET operation_id = 'vid_1', operation = '{}'"
    await hand.db.write(lambda tx: tx.run(late))
    status, body = await redrive(hand, generation_id)
    assert (status, body["redrive"]["from"]) == (202, "poll"), "its operation is known by now"
    await hand.take(Step.POLL)
    assert await hand.take(Step.STORE) == Complete()
    assert hand.script.calls["submit"] == 1


async def test_an_unknown_call_is_cleared_up_before_anything_is_paid(hand):
    """Poison can end a generation while its paid call is still unknown."""
    generation_id = await hand.held()
    await _kill(hand, generation_id)
    status, body = await redrive(hand, generation_id)
    assert (status, body["stage"], body["redrive"]["from"]) == (202, "held", "resolve")
    assert not body["redrive"]["needsAllowRepay"]
    hand.script.lookup = [say(200, {"videos": [{"id": "vid_1", "status": "running"}]})]
    await hand.take(Step.RESOLVE)
    assert (await hand.house.get(generation_id))["stage"] == "generating"
    assert await hand.db.read(lambda tx: tx.value("SELECT count(*) FROM submission")) == 1


async def _kill(hand: Hand, generation_id: str) -> None:
    """End it as poison does, whatever it was at."""

    def unit(tx: Tx) -> None:
        dead = {"status": "dead", "finished_at": tx.now}
        tx.update("job", dead, "subject_id = :id", {"id": generation_id})
        failed = {"status": "failed", "stage": None, "error_code": "poison", "finished_at": tx.now}
        tx.update("generation", failed, "id = :id", {"id": generation_id})

    await hand.db.write(unit)


async def test_where_to_begin_can_be_chosen(hand):
    generation_id = await bad_file(hand)
    assert await refused(hand, generation_id, **{"from": "resolve"}) == "not_redrivable"
    assert await refused(hand, generation_id, **{"from": "submit"}) == "repay_needed"
    assert (await redrive(hand, generation_id, **{"from": "poll"}))[1]["stage"] == "generating"
    hand.script.file = [Response("<html>", media_type="video/mp4")]
    await hand.take(Step.POLL)
    await hand.take(Step.STORE)
    assert (await redrive(hand, generation_id, **{"from": "submit"}, allowRepay=True))[0] == 202
    await hand.take(Step.SUBMIT)
    assert hand.script.calls["submit"] == 2


async def test_paying_again_closes_what_was_open(hand):
    generation_id = await hand.generating()
    await _kill(hand, generation_id)
    assert (await redrive(hand, generation_id, **{"from": "submit"}, allowRepay=True))[0] == 202
    first = await hand.row("submission")
    assert (first["outcome"], first["billed"]) == ("failed", "unknown")
    assert isinstance(await hand.take(Step.SUBMIT), Advance)


@pytest.mark.parametrize("body", [{"from": "upload"}, {"allowRepay": "yes"}, {"form": "auto"}, {"start": "auto"}, []])
async def test_a_body_with_mistakes(hand, body):
    response = await hand.house.api.post("/api/generations/gen_1/redrive", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_no_body_means_auto(hand):
    generation_id = await bad_file(hand)
    response = await hand.house.api.post(f"/api/generations/{generation_id}/redrive")
    assert (response.status_code, response.json()["redrive"]["from"]) == (202, "store")


async def test_only_what_has_failed_is_redriven(hand):
    made = await hand.house.submit("x")
    _, problem = await redrive(hand, made["id"])
    assert (problem["code"], "queued" in problem["detail"]) == ("not_redrivable", True)
    await hand.house.api.post(f"/api/generations/{made['id']}/cancel")
    _, problem = await redrive(hand, made["id"])
    assert (problem["code"], "cancelled" in problem["detail"]) == ("not_redrivable", True)

    done = await hand.generating()
    await hand.take(Step.POLL)
    await hand.take(Step.STORE)
    _, problem = await redrive(hand, done)
    assert (problem["code"], "completed" in problem["detail"]) == ("not_redrivable", True)
    assert (await redrive(hand, "gen_nothing"))[0] == 404


async def test_two_at_once_start_one_run(hand):
    generation_id = await bad_file(hand)
    answers = await asyncio.gather(*(redrive(hand, generation_id) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [202] + [409] * 7
    assert (await hand.house.get(generation_id))["run"] == 2


async def test_a_job_that_was_pruned_is_made_anew(hand):
    generation_id = await bad_file(hand)
    await hand.db.write(lambda tx: tx.run("DELETE FROM job WHERE subject_id = :id", {"id": generation_id}))
    assert (await redrive(hand, generation_id))[0] == 202
    assert await hand.take(Step.STORE) == Complete()


async def test_a_turn_of_the_run_before_records_nothing(hand):
    generation_id = await hand.generating()
    await hand.take(Step.POLL)
    old = await hand.begin(Step.STORE)
    report = await hand.run(old)
    sql = "UPDATE job SET status = 'pending', locked_by = NULL, locked_until = NULL WHERE subject_id = :id"
    await hand.db.write(lambda tx: tx.run(sql, {"id": generation_id}))
    await _kill(hand, generation_id)
    await redrive(hand, generation_id)
    assert await hand.record(old, report) is None
    assert await hand.take(Step.STORE) == Complete()
    assert await events(hand, generation_id) == [(2, "generation.completed")]


async def test_the_wait_for_a_provider_begins_anew(tmp_path, place):
    async with by_hand(tmp_path, **SECRETS, database_url=place.url, queue_timeout=60) as hand:
        made = await hand.house.submit("x")
        await hand.change("generation", created_at=-3600)
        assert isinstance(await hand.take(Step.SUBMIT), DeadLetter)
        assert (await redrive(hand, made["id"]))[0] == 202
        assert isinstance(await hand.take(Step.SUBMIT), Advance)


async def test_a_redriven_one_can_be_cancelled_or_requeued_like_any_other(hand):
    hand.script.submit = [say(400), say(429), say(202, {"id": "vid_2"})]
    made = await hand.house.submit("x")
    await hand.take(Step.SUBMIT)
    await redrive(hand, made["id"])
    assert isinstance(await hand.take(Step.SUBMIT), Requeue)
    cancelled = await hand.house.api.post(f"/api/generations/{made['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert await events(hand, made["id"]) == [(1, "generation.failed"), (2, "generation.cancelled")]


async def test_a_cancel_that_came_too_late_does_not_end_the_next_run(hand):
    generation_id = await hand.generating()
    await _kill(hand, generation_id)
    sql = "UPDATE job SET cancel_requested = 1"
    await hand.db.write(lambda tx: tx.run(sql))
    await hand.change("generation", cancel_requested_at=0)
    _, body = await redrive(hand, generation_id)
    assert body["cancelRequested"] is False
    assert isinstance(await hand.take(Step.POLL), Advance)


async def test_processing_is_told_again_to_those_who_asked(tmp_path, place):
    told = "generation.completed,generation.failed,generation.processing"
    async with by_hand(tmp_path, **SECRETS, database_url=place.url, store_attempts=1, webhook_events=told) as hand:
        generation_id = await bad_file(hand)
        await redrive(hand, generation_id)
        sql = "SELECT run, type FROM webhook_event WHERE generation_id = :id ORDER BY sequence"
        rows = await hand.db.read(lambda tx: tx.all(sql, {"id": generation_id}))
    assert [(row["run"], row["type"].removeprefix("generation.")) for row in rows] == [
        (1, "processing"),
        (1, "failed"),
        (2, "processing"),
    ]
