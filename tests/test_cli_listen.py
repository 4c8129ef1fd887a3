"""`dailies listen` hears every event once and forwards its bytes; `dailies resend` sends again what was missed."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from pipeline.cli.listening import write_env
from pipeline.cli.resending import progress_text
from tests.cli_place import Neighbour, dailies, neighbour, program
from webhooks.signing import verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 32


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbour]:
    with neighbour(tmp_path_factory.mktemp("service"), webhook_schedule="0,0.05,3600") as place:
        yield place


class App:
    """The developer's app: verifies everything, remembers it, and answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.took: list[tuple[str, bytes]] = []

    def __call__(self, request: Request, body: bytes) -> Response:
        verify([SECRET], request.headers, body, now=time.time())
        self.took.append((request.headers["webhook-id"], body))
        return Response(status_code=self.answers.pop(0) if self.answers else 204)


@contextmanager
def when_heard(service: Neighbour, *prompts: str) -> Iterator[None]:
    """Generations that are asked for once somebody listens."""

    def act() -> None:
        deadline = time.monotonic() + 10
        while not service.house.service.streams.open and time.monotonic() < deadline:
            time.sleep(0.02)
        for prompt in prompts:
            service.call(service.house.submit, prompt)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


def kept(service: Neighbour) -> dict[str, bytes]:
    """What the service recorded, by id."""
    sql = "SELECT id, body FROM webhook_event"
    rows = service.call(service.house.plant.db.read, lambda tx: tx.all(sql))
    return {row["id"]: row["body"].encode() for row in rows}


# --- listen -----------------------------------------------------------------------------------------------------------


def test_each_event_is_forwarded_once_with_its_bytes_and_told_in_a_line(service: Neighbour) -> None:
    app = App()
    with program(app) as url, when_heard(service, "a fox", "an owl [[fail:moderation]]"):
        result = service.run("listen", "--forward-to", f"{url}/hook", "--secret", SECRET, "--count", "2")
    assert result.exit_code == 0, result.output
    bodies = kept(service)
    assert [bodies[event] for event, _ in app.took] == [body for _, body in app.took]
    assert len({event for event, _ in app.took}) == 2
    lines = result.stdout.splitlines()
    pattern = r"\d\d:\d\d:\d\d  generation\.(completed|failed) +gen_\w+  evt_\w+  204  \d+ ms"
    assert [bool(re.fullmatch(pattern, line)) for line in lines] == [True, True]
    assert "ready" in result.stderr


def test_only_the_events_that_are_asked_for_are_forwarded(service: Neighbour) -> None:
    app = App()
    with program(app) as url, when_heard(service, "an owl [[fail:moderation]]", "a fox"):
        asked = ("--secret", SECRET, "--count", "1", "--events", "generation.completed")
        result = service.run("listen", "--forward-to", url, *asked)
    assert result.exit_code == 0, result.output
    assert [json.loads(body)["type"] for _, body in app.took] == ["generation.completed"]
    wrong = service.run("listen", "--events", "generation.done", "--secret", SECRET)
    assert (wrong.exit_code, "known are" in wrong.stderr) == (2, True)


def test_what_the_app_does_not_take_is_told_and_not_repeated(service: Neighbour) -> None:
    app = App()
    app.answers = [500]
    with program(app) as url, when_heard(service, "a fox", "a fox"):
        result = service.run("listen", "--forward-to", url, "--secret", SECRET, "--count", "2")
    assert result.exit_code == 1
    assert "1 of 2 events were not answered with a 2xx" in result.stderr
    assert len({event for event, _ in app.took}) == len(app.took) == 2
    assert "500: the receiver's handler failed" in result.stdout


def test_an_app_that_does_not_run_is_told_in_words(service: Neighbour) -> None:
    with when_heard(service, "a fox"):
        result = service.run("listen", "--forward-to", "http://127.0.0.1:1/hook", "--secret", SECRET, "--count", "1")
    assert result.exit_code == 1
    assert "refused" in result.stdout
    assert "nothing listens on that port" in result.stdout


def frame(number: int, name: str = "generation.completed") -> str:
    event = {"id": f"evt_{number:012x}", "type": name, "generation": "gen_1", "body": f'{{"n":{number}}}'}
    return f"id: {event['id']}\nevent: {name}\ndata: {json.dumps(event)}\n\n"


READY = "id: evt_000000000001\nevent: ready\ndata: {}\n\n"


def test_after_a_cut_it_goes_on_where_it_was_and_nothing_comes_twice() -> None:
    """The service cuts the stream again and again, is away for a while, and repeats what it may repeat."""
    asked: list[str | None] = []
    streams = [
        [READY],
        [READY, frame(2), frame(3), frame(4)[:40]],
        [READY, frame(3), frame(4)],
        [READY, frame(2), frame(3), frame(4), frame(5)],
    ]

    def answer(request: Request, _: bytes) -> Response:
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 3:
            return Response(status_code=503)
        portions = iter(streams.pop(0))
        return StreamingResponse(portions, media_type="text/event-stream")

    app = App()
    with program(app) as url, program(answer) as far:
        result = dailies("listen", "--url", far, "--key", "k", "--forward-to", url, "--secret", SECRET, "--count", "4")
    assert result.exit_code == 0, result.output
    assert [body for _, body in app.took] == [b'{"n":2}', b'{"n":3}', b'{"n":4}', b'{"n":5}']
    first, third = "evt_000000000001", "evt_000000000003"
    assert asked == [None, first, third, third, "evt_000000000004"]


@pytest.mark.parametrize(("status", "exit_code"), [(401, 2), (403, 2), (404, 2)])
def test_what_is_refused_for_good_ends_it(status: int, exit_code: int) -> None:
    problem = {"title": "no", "code": "forbidden", "detail": "this key may not"}
    with program(lambda *_: JSONResponse(problem, status)) as far:
        result = dailies("listen", "--url", far, "--key", "k", "--secret", SECRET)
    assert (result.exit_code, "this key may not" in result.stderr) == (exit_code, True)


def test_what_is_no_such_service_and_none_at_all() -> None:
    with program(lambda *_: Response("<html>")) as far:
        result = dailies("listen", "--url", far, "--key", "k", "--secret", SECRET)
    assert (result.exit_code, "is it this service" in result.stderr) == (2, True)
    result = dailies("listen", "--url", "http://127.0.0.1:1", "--key", "k", "--secret", SECRET, "--retry-for", "0.2")
    assert result.exit_code == 3


# --- the secret -------------------------------------------------------------------------------------------------------


def test_the_secret_of_a_project_is_made_once_and_is_that_of_its_service(tmp_path: Path) -> None:
    first, second = (dailies("listen", "--print-secret", env={"DATA_DIR": "data"}).stdout for _ in range(2))
    assert first == second
    assert first.startswith("whsec_")
    assert json.loads((tmp_path / "data" / "secrets").read_text())["WEBHOOK_SECRET"] == first.strip()
    assert dailies("listen", "--print-secret", env={"WEBHOOK_SECRET": f"{SECRET},{OTHER}"}).stdout.strip() == SECRET
    assert dailies("listen", "--print-secret", "--secret", OTHER).stdout.strip() == OTHER


def test_a_secret_that_is_none_is_refused_without_being_shown() -> None:
    result = dailies("listen", "--print-secret", "--secret", "whsec_short")
    assert (result.exit_code, "whsec_short" in result.output) == (2, False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"WEBHOOK_SECRET={SECRET}\n"),
        ("A=1", f"A=1\nWEBHOOK_SECRET={SECRET}\n"),
        ("A=1\nWEBHOOK_SECRET=old\nB=2\n", f"A=1\nWEBHOOK_SECRET={SECRET}\nB=2\n"),
        ("export WEBHOOK_SECRET = 'x'\n# WEBHOOK_SECRET=y\n", f"WEBHOOK_SECRET={SECRET}\n# WEBHOOK_SECRET=y\n"),
        (f"WEBHOOK_SECRET={SECRET}\n", f"WEBHOOK_SECRET={SECRET}\n"),
    ],
)
def test_the_secret_takes_its_place_in_a_file_of_variables(tmp_path: Path, before: str | None, after: str) -> None:
    path = tmp_path / ".env.local"
    if before is not None:
        path.write_text(before)
    assert write_env(path, SECRET) == (before != after)
    assert path.read_text() == after
    assert before is not None or path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    result = dailies("listen", "--secret", SECRET, "--env-file", str(tmp_path / "no" / ".env"), "--url", "http://x")
    assert (result.exit_code, "--env-file" in result.stderr) == (2, True)


# --- resend -----------------------------------------------------------------------------------------------------------


def deliveries(service: Neighbour, generation: str) -> list[dict[str, Any]]:
    answer = service.call(service.house.api.get, "/api/webhooks/deliveries", params={"generation": generation})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def missed(service: Neighbour, attempts: int) -> str:
    """The id of a delivery that failed so often."""
    service.house.answers[:] = [500] * attempts
    generation = service.completed()
    deadline = time.monotonic() + 10
    while (delivery := deliveries(service, generation)[0])["attemptCount"] < attempts:
        assert time.monotonic() < deadline, delivery
        time.sleep(0.02)
    return str(delivery["id"])


def test_one_is_sent_again_and_what_came_of_it_is_told(service: Neighbour) -> None:
    lost = missed(service, 2)
    result = service.run("resend", lost)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"dlv_\w+  generation\.completed to http://\S+  delivered: 204: delivered \(\d+ ms\)", result.stdout
    )
    service.house.answers[:] = [503, 503]
    result = service.run("resend", lost)
    assert (result.exit_code, "503" in result.stderr, "next try" in result.stderr) == (1, True, True)
    service.house.answers[:] = []
    told = json.loads(service.run("resend", lost, "--json").stdout)
    assert (told["state"], told["redelivery"]) == ("delivered", 3)
    assert service.run("resend", "dlv_0").exit_code == 2


def test_all_that_failed_is_sent_again_with_its_progress(service: Neighbour) -> None:
    lost = [missed(service, 2) for _ in range(3)]
    result = service.run("resend", "--failed", "--since", "1h", "--endpoint", "ep_default")
    assert result.exit_code == 0, result.output
    assert re.search(r"rcv_\w+  (\d+) of \1 sent again", result.stdout)
    deadline = time.monotonic() + 10
    while states(service, lost) != {"delivered"}:
        assert time.monotonic() < deadline, states(service, lost)
        time.sleep(0.05)
    recovery = json.loads(service.run("resend", "--failed", "--since", "1h", "--json").stdout)
    assert (recovery["state"], recovery["total"], recovery["sent"]) == ("done", 0, 0)


def states(service: Neighbour, ids: list[str]) -> set[str]:
    answers = [service.call(service.house.api.get, f"/api/webhooks/deliveries/{each}").json() for each in ids]
    return {answer["state"] for answer in answers}


@pytest.mark.parametrize(
    "asked",
    [[], ["--failed"], ["dlv_1", "--failed", "--since", "1h"], ["dlv_1", "--since", "1h"], ["dlv_1", "--type", "x"]],
)
def test_one_way_to_say_what(service: Neighbour, asked: list[str]) -> None:
    assert service.run("resend", *asked).exit_code == 2


def test_a_type_and_a_time_that_are_none_are_refused(service: Neighbour) -> None:
    result = service.run("resend", "--failed", "--since", "1h", "--type", "generation.done")
    assert (result.exit_code, "types" in result.stderr) == (2, True)
    result = service.run("resend", "--failed", "--since", "1h", "--until", "2h")
    assert (result.exit_code, "later than since" in result.stderr) == (2, True)


def test_progress_in_words() -> None:
    recovery = {"id": "rcv_1", "sent": 3, "total": 9, "skipped": 0}
    assert progress_text(recovery) == "rcv_1  3 of 9 sent again"
    assert progress_text(recovery | {"skipped": 2}) == "rcv_1  3 of 9 sent again, 2 skipped"
