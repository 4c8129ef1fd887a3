"""News of a paid call that come when another one is about to be made: what was taken is never paid for again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from pipeline.lifecycle import Advance, Cancel, Requeue, Snooze, Step
from tests.pipeline.api.settings import SETTINGS
from tests.pipeline.engines import Place
from tests.pipeline.provider_script import NOT_FOUND, RUNNING, Hand, by_hand, say

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
