"""`dailies explain`, and what who waits for a generation is told, against a service."""

import asyncio
import time

import pytest

from pipeline.cli.explaining import explanation_text, tell_why
from tests.cli_place import neighbour, printed_json


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("service")) as place:
        yield place


def said(service, *command: str) -> str:
    result = service.run(*command)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_pause_is_told_with_its_reason_and_what_to_do(service):
    said(service, "pause", "user:alice", "--reason", "abuse")
    made = service.call(service.house.submit, "x", userId="alice", generationId="order-1")
    shown = said(service, "explain", "order-1")
    assert shown.startswith(f"{made['id']}  queued, waiting: user_paused\n")
    assert "Its user is paused until it is resumed: abuse." in shown
    assert "what to do     `dailies resume user:alice` lets this user go on." in shown
    assert "its user       0 in flight, 0 before it in line" in shown
    assert printed_json("explain", made["id"], env=service.env)["state"] == "user_paused"
    said(service, "resume", "user:alice")
    assert service.call(service.house.ended, made["id"])["status"] == "completed"
    deadline = time.monotonic() + 10
    while "was delivered." not in (shown := said(service, "explain", made["id"])):
        assert time.monotonic() < deadline, shown
    assert f"{made['id']}  completed\n" in shown
    assert "what to do     Nothing." in shown


def test_a_failure_is_told_with_the_way_on(service):
    failed = service.failed()
    shown = said(service, "explain", failed)
    assert f"{failed}  failed\n" in shown
    assert f"`dailies redrive {failed}` asks anew" in shown


def test_who_is_not_there_is_named(service):
    missing = service.run("explain", "nothing")
    assert (missing.exit_code, "there is no generation 'nothing'" in missing.stderr) == (2, True)


def test_words_of_strangers_do_not_steer_the_terminal():
    told = dict.fromkeys(
        ("stage", "position", "expectedStart", "retryAt", "nextTurnAt", "waiting", "attempts", "worker", "workersAlive")
    )
    told |= {"id": "gen_1", "status": "failed", "state": "failed", "summary": "a\x1b[2Jb", "whatToDo": "c\nd"}
    told |= {"deliveries": [], "lastTrouble": {"at": "now", "message": "e\x07"}}
    text = explanation_text(told)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "a [2Jb" in text
    assert "c d" in text


class Slow:
    """A client that is told a state after the other."""

    def __init__(self, *states: str) -> None:
        self._states = list(states)
        self.asked = 0
        self.done = asyncio.Event()

    async def get(self, path: str) -> dict[str, str]:
        assert path == "/api/generations/gen_1/explain"
        self.asked += 1
        if self.asked == len(self._states):
            self.done.set()
        state = self._states[min(self.asked, len(self._states)) - 1]
        return {"stage": "waiting" if state != "generating" else state, "state": state, "summary": f"it is {state}."}


@pytest.mark.anyio
async def test_who_waits_is_told_why_and_again_when_that_has_changed():
    client, told = Slow("lane_full", "lane_full", "user_paused", "generating", "lane_full"), []
    task = asyncio.create_task(tell_why(client, "gen_1", told.append, every=0.001))  # type: ignore[arg-type]  # a part
    await asyncio.wait_for(client.done.wait(), 5)
    task.cancel()
    assert told[:2] == ["it is lane_full.", "it is user_paused."]
