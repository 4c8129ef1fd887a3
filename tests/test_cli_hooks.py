"""The commands for who writes a receiver: `trigger`, `verify`, `sink`."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from pipeline.cli.samples import event_body
from pipeline.links import Links
from pipeline.schemas.responses import WebhookEvent
from tests.cli_place import dailies, program
from tests.webhooks.receivers import SECRET
from webhooks.events import EventType
from webhooks.signing import sign, verify

OTHER = "whsec_" + "REVG" * 8
ENV = {"WEBHOOK_SECRET": SECRET, "ALLOWED_NETWORKS": "127.0.0.0/8"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- trigger ---------------------------------------------------------------------------------------------------------

Taken = list[tuple[dict[str, str], bytes]]


@pytest.fixture
def taken() -> Taken:
    return []


@pytest.fixture
def url(taken: Taken) -> Iterator[str]:
    """An app that takes what is signed with SECRET."""

    def answer(request: Request, body: bytes) -> Response:
        taken.append((dict(request.headers), body))
        if request.url.path == "/moved":
            return Response(status_code=308, headers={"Location": "/moved/"})
        verify([SECRET], request.headers, body, now=time.time())
        return Response("thank you\n\x1b[31m", status_code=202)

    with program(answer) as base:
        yield base


@pytest.mark.parametrize("event", EventType)
def test_every_event_can_be_triggered_and_is_as_real_ones(event: EventType, url: str, taken: Taken) -> None:
    result = dailies("trigger", event.value, "--to", f"{url}/hook", env=ENV)
    assert result.exit_code == 0, result.output
    ((headers, body),) = taken
    assert headers["webhook-id"].startswith("evt_test_")
    read = WebhookEvent.model_validate_json(body)
    assert read.type == read.event == event
    assert json.loads(body)["data"]["id"] == "gen_00000000000000000000000000000000"
    assert "202: delivered" in result.output
    assert "  | thank you" in result.output
    assert "\x1b" not in result.output


def test_what_it_says_can_be_changed_and_what_mirrors_it_follows(url: str, taken: Taken) -> None:
    sets = ("data.result.videoUrl=https://cdn.example/a.mp4", "data.result.duration=12", "data.generationId=order-9")
    sets += ("data.metadata.plan=pro", 'data.prompt="42"')
    result = dailies(
        "trigger", "generation.completed", *[x for s in sets for x in ("--set", s)], env=ENV | {"WEBHOOK_URL": url}
    )
    assert result.exit_code == 0, result.output
    event = json.loads(taken[0][1])
    assert event["result"] == {"videoUrl": "https://cdn.example/a.mp4", "duration": 12, "processingTime": 42_000}
    assert (event["generationId"], event["data"]["prompt"]) == ("order-9", "42")
    assert event["data"]["metadata"] == {"plan": "pro"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data.result", "write data.NAME=VALUE"),
        ("status=failed", "write data.NAME=VALUE"),
        ("data.=1", "write data.NAME=VALUE"),
        ("data.resutl.x=1", "there is no data.resutl; known are"),
        ("data.error.code=x", "there is no data.error.code here"),
        ("data.status=lost", "no event looks like that"),
        ("data.priority=[]", "no event looks like that"),
        ("data.result=5", "no event"),
        ("data.progress=NaN", "no event"),
    ],
)
def test_what_no_event_says_is_refused(text: str, words: str) -> None:
    result = dailies("trigger", "generation.completed", "--set", text, "--to", "http://127.0.0.1:9/", env=ENV)
    assert result.exit_code == 2
    assert words in result.output


def test_a_repeat_has_the_same_id_and_bytes(url: str, taken: Taken) -> None:
    assert dailies("trigger", "webhook.test", "--times", "3", "--to", url, env=ENV).exit_code == 0
    assert len({headers["webhook-id"] for headers, _ in taken}) == len({body for _, body in taken}) == 1
    assert [headers["webhook-attempt"] for headers, _ in taken] == ["1", "2", "3"]


def test_a_failure_is_explained(url: str) -> None:
    result = dailies("trigger", "generation.failed", "--to", f"{url}/moved", env=ENV)
    assert result.exit_code == 1
    assert "only the trailing slash differs" in result.output
    blocked = dailies("trigger", "generation.failed", "--to", url, "--json", env=ENV | {"ALLOWED_NETWORKS": ""})
    assert blocked.exit_code == 1
    (tried,) = json.loads(blocked.stdout)["data"]
    assert (tried["status"], tried["reason"], tried["delivered"]) == (None, "blocked_address", False)


def test_nowhere_to_send_it_is_said() -> None:
    result = dailies("trigger", "webhook.test", env=ENV | {"WEBHOOK_URL": ""})
    assert (result.exit_code, "--to URL" in result.output) == (2, True)


def test_what_would_be_sent_verifies() -> None:
    printed = dailies("trigger", "generation.progress", "--dry-run", "--to", "http://app.example/hook", env=ENV)
    assert printed.exit_code == 0
    checked = dailies("verify", env=ENV, input=printed.stdout)
    assert checked.exit_code == 0, checked.output
    assert checked.output.endswith("It verifies.\n")


def test_events_carry_no_more_than_real_ones() -> None:
    links = Links("https://x.example", None, ["secret"], 100)
    events = {each: json.loads(event_body(each, links, 1_763_800_000.0)) for each in EventType}
    assert events[EventType.COMPLETED]["result"]["videoUrl"].startswith("https://x.example/api/generations/gen_0")
    assert events[EventType.FAILED]["error"].startswith("The provider refused")
    assert events[EventType.HELD]["data"]["held"]["atStakeMicros"] == 400_000
    assert events[EventType.EXPIRED]["data"]["expired"] is True
    assert {each["status"] for each in events.values()} == {"completed", "failed", "cancelled", "processing"}


# --- verify ----------------------------------------------------------------------------------------------------------

BODY = b'{"type":"generation.completed","n":1}'


def request(body: bytes = BODY, age: int = 0, secret: str = SECRET) -> bytes:
    headers = sign([secret], event_id="evt_1", timestamp=int(time.time()) - age, body=BODY)
    return "".join(f"{name}: {value}\n" for name, value in headers.items()).encode() + b"\n" + body


def test_a_request_in_a_file_is_examined(tmp_path: Path) -> None:
    (tmp_path / "request.txt").write_bytes(request(json.dumps(json.loads(BODY)).encode()))
    result = dailies("verify", "request.txt", "--secret", SECRET)
    assert result.exit_code == 1
    assert re.search(r"^  body +WRONG +the body was parsed and written again", result.output, re.MULTILINE)
    assert "It does not verify: look at body." in result.output
    assert SECRET not in result.output


def test_the_services_own_secret_is_tried_beside_the_one_given() -> None:
    result = dailies("verify", "--secret", OTHER, "--json", env=ENV, input=request().decode())
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["wrong"] == ["key"]
    assert "the service's own WEBHOOK_SECRET" in found["data"][0]["detail"]


def test_headers_and_body_can_be_given_apart(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(BODY)
    headers = sign([SECRET], event_id="evt_1", timestamp=int(time.time()), body=BODY)
    options = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    assert dailies("verify", *options, "--body", "body.json", env=ENV).exit_code == 0


def test_an_old_request_is_judged_by_when_it_came() -> None:
    saved = request(age=7200).decode()
    late = dailies("verify", env=ENV, input=saved)
    assert (late.exit_code, "2 hours old" in late.output) == (1, True)
    assert dailies("verify", "--at", "2h", env=ENV, input=saved).exit_code == 0


@pytest.mark.parametrize("input_", ["hello", "{}", "curl x", ""])
def test_what_is_no_request_ends_in_words(input_: str) -> None:
    result = dailies("verify", env=ENV, input=input_)
    assert result.exit_code in {1, 2}
    assert "Traceback" not in result.output
    assert dailies("verify", "missing.txt", env=ENV).exit_code == 2
    assert dailies("verify", "-H", "nonsense", env=ENV, input=request().decode()).exit_code == 2


def test_without_any_secret_it_makes_none(tmp_path: Path) -> None:
    result = dailies("verify", input=request().decode())
    assert (result.exit_code, "give it with --secret" in result.output) == (1, True)
    assert list(tmp_path.iterdir()) == []


# --- sink ------------------------------------------------------------------------------------------------------------


def test_the_list_names_every_behaviour() -> None:
    result = dailies("sink", "--list")
    assert result.exit_code == 0
    for name in ("slow-body[=SECONDS]", "status=CODE", "gzip-bomb", "tls-expired", "trailing-slash"):
        assert f"  {name}" in result.output


@pytest.mark.parametrize(("spec", "words"), [("slow-bdy", "did you mean slow-body?"), ("status", "status=CODE")])
def test_a_behaviour_that_is_none_is_refused(spec: str, words: str) -> None:
    result = dailies("sink", "-b", spec, env=ENV)
    assert (result.exit_code, words in result.output, "--list" in result.output) == (2, True, True)


def test_a_sink_tells_of_every_request_until_it_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "sink", "--port", "0", "--secret", SECRET, "--ca-file", "ca.pem"]
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "-b", "status=503,retry-after=20"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        assert process.stdout.readline() == "It does: status=503, retry-after=20\n"
        headers = sign([SECRET], event_id="evt_1", timestamp=int(time.time()), body=BODY)
        response = httpx.post(url[0], content=BODY, headers=headers)
        assert (response.status_code, response.headers["retry-after"]) == (503, "20")
        trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        secure = httpx.post(url[0].replace("http://", "https://"), content=b"x", verify=trusted)
        assert secure.status_code == 503
        assert process.stdout.readline() == "\n"
        assert process.stdout.readline()[8:].strip() == (
            "POST /api/webhooks/worker  evt_1  signature right  -> status=503, retry-after=20"
        )
        assert "over TLS  no id  SIGNATURE: webhook-id is missing" in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=10)
    assert (process.returncode, "Traceback" in rest) == (0, False)
