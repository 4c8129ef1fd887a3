"""Probes: one request, or one old operation, that is refused with words for everybody keeps nobody else waiting."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pipeline import admission
from pipeline.lifecycle import Fail, Requeue, Step
from tests.house import eventually
from tests.pipeline.provider_script import LANE, Hand, Script, by_hand, say, scripted_house

pytestmark = pytest.mark.anyio


class Choosy(Script):
    """Takes the work of everybody but `poison`."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.refusal = say(status, {"error": {"code": "model_not_allowed", "message": "not with this key"}})

    def _answer(self, kind: str):
        usual = super()._answer(kind)

        async def answer(request: Request) -> Response:
            if kind != "submit":
                return await usual(request)
            if (await request.json())["prompt"] == "poison":
                self.calls["refused"] += 1
                return self.refusal
            self.calls["taken"] += 1
            return say(202, {"id": f"vid_{self.calls['taken']}"})

        return answer


@pytest.mark.parametrize("caps", [{}, {"spend_per_user_day": "1000"}], ids=["without caps", "with caps"])
@pytest.mark.parametrize(("status", "code"), [(403, "provider_auth"), (402, "provider_quota")])
async def test_one_that_is_refused_for_itself_keeps_nobody_waiting_and_fails(
    tmp_path: Path, status: int, code: str, caps: dict[str, str]
) -> None:
    script = Choosy(status)
    async with scripted_house(tmp_path, script, lane_pause=0.1, **caps) as house:

        async def calls() -> int:
            return script.calls["refused"]

        bad = await house.submit("poison")
        await eventually(calls, bool, 5)
        good = [await house.submit("a fox") for _ in range(5)]
        for each in good:
            assert (await house.ended(each["id"]))["status"] == "completed"
        while (await house.get(bad["id"]))["status"] not in {"failed", "completed"}:
            assert (await house.ended((await house.submit("a fox"))["id"]))["status"] == "completed"
        ended = await house.ended(bad["id"])
        assert (ended["status"], ended["error"]["code"], ended["billed"]) == ("failed", code, "no")
        last = await house.submit("a fox")
        assert (await house.ended(last["id"]))["status"] == "completed"
    assert 3 <= script.calls["refused"] <= 10  # MAX_ATTEMPTS, and those before anybody else was taken


async def open_lane(hand: Hand) -> None:
    await hand.db.write(lambda tx: tx.run("UPDATE lane SET paused_until = 0"))


@pytest.mark.parametrize("caps", [{}, {"spend_per_user_day": "1000"}], ids=["without caps", "with caps"])
async def test_the_next_probe_is_another_and_then_the_one_that_was_refused_longest_ago(
    tmp_path: Path, caps: dict[str, str]
) -> None:
    async with by_hand(tmp_path, max_attempts=1, **caps) as hand:
        hand.script.submit = [say(402)]
        ids = [(await hand.house.submit("a fox"))["id"] for _ in range(3)]
        await hand.db.write(lambda tx: admission.note_refusal(tx, LANE, seconds=1.0, reason="no credit"))
        asked = []
        for _ in range(7):
            await open_lane(hand)
            turn = await hand.begin(Step.SUBMIT)
            asked.append(turn.claim.subject_id)
            assert isinstance(await hand.record(turn, await hand.run(turn)), Requeue)  # nobody was taken: none fails
    assert asked == [*ids, *ids, ids[0]]


async def test_a_refusal_is_its_own_only_after_somebody_else_was_taken(tmp_path: Path) -> None:
    async with by_hand(tmp_path, max_attempts=2) as hand:
        hand.script.submit = [say(403)]
        await hand.house.submit("poison")
        for _ in range(4):
            assert isinstance(await hand.take(Step.SUBMIT), Requeue)
            await open_lane(hand)
        hand.script.submit = [say(202, {"id": "vid_2"}), say(403)]
        await hand.house.submit("a fox")
        await hand.take(Step.SUBMIT)
        assert isinstance(await hand.take(Step.SUBMIT), Fail)
        assert (await hand.row("lane"))["paused_until"] is None


async def test_an_old_operation_that_is_refused_closes_no_lane_that_works(tmp_path: Path) -> None:
    async with by_hand(tmp_path, lane_pause=60) as hand:
        await hand.generating()
        hand.script.poll = [say(403)]
        await hand.take(Step.POLL)
        assert (await hand.row("lane"))["paused_until"] is None  # its own submission was taken just now
        await hand.change("submission", answered_at=-61.0)
        await hand.take(Step.POLL)
        closed = await hand.row("lane")
        assert closed["paused_until"] is not None
        await hand.take(Step.POLL)
        assert await hand.row("lane") == closed
        await open_lane(hand)
        await hand.take(Step.POLL)
        lane = await hand.row("lane")
        assert (lane["paused_until"], lane["probing"]) == (0, 1)
