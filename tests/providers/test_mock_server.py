"""The mock server itself: its dialect, ledger, faults, links and callbacks, and that a killed one forgets nothing."""

import asyncio
import json
import logging
import os
import signal
import sys

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from providers.mock.dialects import DIALECTS
from providers.mock.faults import FAULTS, Directive, directives
from providers.mock.serve import MockServer
from providers.mock.server import create_mock

pytestmark = pytest.mark.anyio
KEY = {"authorization": "Bearer any"}


class Clock:
    """Time that moves when told."""

    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def api(clock):
    async with (
        MockServer(create_mock(clock=clock)) as server,
        httpx.AsyncClient(base_url=server.url, headers=KEY, timeout=5) as api,
    ):
        yield api


async def order(api, prompt="a fox", *, key=None, **asked):
    headers = {"idempotency-key": key} if key else {}
    return await api.post("/v1/videos", json={"prompt": prompt, **asked}, headers=headers)


async def finished(api, clock, prompt="a fox", **asked):
    """A submitted video whose time has passed."""
    made = (await order(api, prompt, **asked)).json()
    clock.now += 3600
    return f"/v1/videos/{made['id']}"


async def test_a_video_goes_from_queued_over_running_to_succeeded(api, clock):
    answer = await order(api, seed=5)
    assert answer.status_code == 202
    url = f"/v1/videos/{answer.json()['id']}"
    assert answer.json()["status"] == "queued"
    clock.now += 15
    running = (await api.get(url)).json()
    assert running["status"] == "running"
    assert 0.2 < running["progress"] < 0.8
    clock.now += 21
    done = (await api.get(url)).json()
    assert (done["status"], done["progress"], done["cost_micros"]) == ("succeeded", 1.0, 400_000)
    assert done["output"]["mime_type"] == "video/mp4"


async def test_a_seed_decides_how_long_it_takes(api, clock):
    made = [(await order(api, seed=9)).json()["id"] for _ in range(2)]
    clock.now += 12
    shown = [(await api.get(f"/v1/videos/{work_id}")).json()["progress"] for work_id in made]
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "raw", [b'{"prompt": "a\xed\xa0\x80"}', b'{"prompt": "a", "x": [1e400]}', b'{"x": NaN}', b"9" * 5000]
)
async def test_what_no_json_can_be_written_of_is_refused(api, raw):
    for path in ("/v1/videos", "/replicate/v1/models/google/veo-3.1/predictions", "/fal/fal-ai/veo3.1/fast"):
        headers = {"authorization": "Key k" if path.startswith("/fal") else "Bearer k"}
        assert 400 <= (await api.post(path, content=raw, headers=headers)).status_code < 500


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/files/x.mp4?expires=1&signature=é", 403),
        ("/files/x.mp4?expires=" + "9" * 5000 + "&signature=a", 403),
        ("/ledger?limit=" + "9" * 5000, 400),
        ("/ledger?limit=99999999999999999999", 400),
        ("/ledger?limit=x", 400),
    ],
)
async def test_odd_queries_are_refused(api, path, status):
    assert (await api.get(path)).status_code == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": " "},
        {"prompt": 5},
        {"prompt": "x" * 4001},
        {"prompt": "\ud800"},
        {"duration": 0},
        {"duration": 61},
        {"duration": 2.5},
        {"duration": True},
        {"aspect_ratio": "2:1"},
        {"resolution": "8k"},
        {"model": "veo"},
        {"seed": -1},
        {"audio": "yes"},
        {"image": {}},
        {"image": {"url": "ftp://x"}},
        {"image": {"data_base64": "%"}},
        {"reference": 5},
        {"callback_url": "file:///etc"},
    ],
)
async def test_bad_input_is_a_400_that_names_the_field(api, wrong):
    answer = await api.post("/v1/videos", content=json.dumps({"prompt": "a fox", **wrong}))
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.json()["error"]["message"]


async def test_every_error_is_an_envelope(api):
    answers = [
        (await api.post("/v1/videos", content=b"{"), 400),
        (await api.get("/v1/videos"), 400),
        (await api.get("/v1/videos/vid_none"), 404),
        (await api.get("/nowhere"), 404),
        (await api.delete("/v1/videos"), 405),
        (await api.get("/v1/videos/x", headers={"authorization": "Basic x"}), 401),
    ]
    for answer, status in answers:
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"code", "message"}


async def test_an_idempotency_key_is_charged_once_and_refused_for_another_body(api):
    first, again = [(await order(api, key="k")).json() for _ in range(2)]
    assert first["id"] == again["id"]
    assert (await order(api, "another", key="k")).status_code == 422
    assert (await order(api, "another", key="k2")).json()["id"] != first["id"]
    assert (await api.get("/ledger")).json()["totals"] == {
        "accepted": 2,
        "charged_micros": 800_000,
        "refunded_micros": 0,
        "net_micros": 800_000,
    }


async def test_the_ledger_tells_who_was_charged_for_what(api):
    await order(api, "a fox", key="k", reference="tok", duration=2)
    await order(api, "an owl")
    (entry,) = (await api.get("/ledger", params={"prompt": "fox"})).json()["entries"]
    assert (entry["idempotency_key"], entry["reference"], entry["charged_micros"]) == ("k", "tok", 100_000)
    assert (await api.get("/ledger", params={"prompt": "fox"})).json()["totals"]["accepted"] == 1
    assert len((await api.get("/ledger", params={"limit": 1})).json()["entries"]) == 1


async def test_a_reference_is_looked_up(api):
    made = (await order(api, reference="tok")).json()
    found = (await api.get("/v1/videos", params={"reference": "tok"})).json()["videos"]
    assert [video["id"] for video in found] == [made["id"]]
    assert (await api.get("/v1/videos", params={"reference": "other"})).json() == {"videos": []}


@pytest.mark.parametrize(("after", "refunded"), [(0, 400_000), (10, 0)])
async def test_cancelling_is_refunded_only_while_queued(api, clock, after, refunded):
    made = (await order(api)).json()
    clock.now += after
    cancelled = (await api.post(f"/v1/videos/{made['id']}/cancel")).json()
    assert cancelled["status"] == "cancelled"
    assert (await api.get("/ledger")).json()["totals"]["refunded_micros"] == refunded


async def test_a_finished_video_is_not_cancelled(api, clock):
    url = await finished(api, clock)
    assert (await api.post(f"{url}/cancel")).json()["status"] == "succeeded"


@pytest.mark.parametrize(("fault", "code"), [("fail:moderation", "moderation"), ("fail:transient", "internal")])
async def test_a_failed_video_says_why_and_is_refunded(api, clock, fault, code):
    url = await finished(api, clock, f"a fox [[{fault}]]")
    shown = (await api.get(url)).json()
    assert (shown["status"], shown["error"]["code"], shown["cost_micros"]) == ("failed", code, 0)
    assert (await api.get("/ledger")).json()["totals"]["net_micros"] == 0


async def test_a_counted_failure_spares_the_next_generation(api, clock):
    prompt = "a fox [[fail:transient:1]]"
    urls = [await finished(api, clock, prompt) for _ in range(2)]
    assert [(await api.get(url)).json()["status"] for url in urls] == ["failed", "succeeded"]


async def test_a_count_belongs_to_its_prompt(api):
    said = [(await order(api, f"{name} [[503-submit:1]]")).status_code for name in ("fox", "fox", "owl", "owl")]
    assert said == [503, 202, 503, 202]


async def test_stuck_never_ends_and_slow_takes_its_seconds(api, clock):
    stuck, slow = await finished(api, clock, "[[stuck]]"), await finished(api, clock, "[[slow:7300]]")
    assert [(await api.get(url)).json()["status"] for url in (stuck, slow)] == ["running", "running"]
    clock.now += 3700
    assert [(await api.get(url)).json()["status"] for url in (stuck, slow)] == ["running", "succeeded"]


async def test_a_rate_limit_names_its_wait(api):
    answers = [await order(api, "[[429:1]]") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 202]
    assert answers[0].headers["retry-after"] == "5"


async def test_polls_break_as_often_as_asked(api, clock):
    url = await finished(api, clock, "[[503-poll:1]] [[garbage-json:1]]")
    answers = [await api.get(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    with pytest.raises(ValueError, match="Unterminated"):
        answers[1].json()


async def link(api, url):
    return (await api.get(url)).json()["output"]["url"]


async def test_a_file_is_served_whole_and_by_range(api, clock):
    url = await link(api, await finished(api, clock, duration=2))
    whole = await api.get(url)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert len(whole.content) == int(whole.headers["content-length"])
    for asked, start, stop in [("0-3", 0, 4), ("100-", 100, None), ("-10", -10, None), ("5-999999999", 5, None)]:
        part = await api.get(url, headers={"range": f"bytes={asked}"})
        assert part.status_code == 206
        assert part.content == whole.content[start:stop]
        assert part.headers["content-range"].endswith(f"/{len(whole.content)}")
    assert (await api.get(url, headers={"range": "bytes=99999999-"})).status_code == 416
    assert (await api.get(url, headers={"range": "lines=1-2"})).status_code == 200


async def test_a_link_dies_with_time_and_with_tampering(api, clock):
    url = await link(api, await finished(api, clock))
    assert (await api.get(url + "0")).status_code == 403
    assert (await api.get(url.replace("expires=1", "expires=2"))).status_code == 403
    clock.now += 3601
    assert (await api.get(url)).status_code == 403


async def test_the_first_link_can_be_expired_already(api, clock):
    url = await finished(api, clock, "[[expired-url:1]]")
    assert [(await api.get(await link(api, url))).status_code for _ in range(2)] == [403, 200]


async def test_html_comes_instead_of_a_video(api, clock):
    answer = await api.get(await link(api, await finished(api, clock, "[[html]]")))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_a_truncated_file_ends_below_its_announced_length(api, clock):
    url = await link(api, await finished(api, clock, "[[truncated]]"))
    received = bytearray()

    async def read(response):
        async for chunk in response.aiter_raw():
            received.extend(chunk)

    async with api.stream("GET", url) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await read(response)
    assert len(received) == int(response.headers["content-length"]) // 2


@pytest.mark.parametrize(("fault", "accepted"), [("cut-submit", 0), ("drop-submit", 1)])
async def test_a_cut_connection_gets_no_answer_and_no_complaint_in_the_log(api, fault, accepted, caplog):
    with caplog.at_level(logging.INFO, "uvicorn"), pytest.raises(httpx.HTTPError):
        await order(api, f"[[{fault}:1]]")
    assert (await api.get("/ledger")).json()["totals"]["accepted"] == accepted
    assert all("uvicorn" not in record.name for record in caplog.records)


async def test_rules_make_faults_for_prompts_that_match(api):
    rules = [{"fault": "503-submit", "count": 1, "match": "owl"}, {"fault": "fail:invalid", "match": "rat"}]
    assert (await api.put("/faults", json=rules)).status_code == 200
    said = [(await order(api, prompt)).status_code for prompt in ("fox", "owl", "owl", "rat", "rat")]
    assert said == [202, 503, 202, 400, 400]
    assert [rule["used"] for rule in (await api.get("/faults")).json()] == [1, 0]
    assert (await api.delete("/faults")).json() == []
    assert (await order(api, "rat")).status_code == 202


@pytest.mark.parametrize("rules", [{}, [5], [{"fault": "flood"}], [{"fault": "429", "count": "2"}], [{"fault": [1]}]])
async def test_a_rule_that_makes_no_sense_is_refused(api, rules):
    assert (await api.put("/faults", json=rules)).status_code == 400


async def test_health_names_the_service(api):
    assert (await api.get("/healthz")).json() == {"service": "dailies-mock", "speed": 1.0, "dialects": list(DIALECTS)}


class Receiver:
    """Our side of callbacks: answers the given statuses in turn, then 204."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.events = asyncio.Queue()
        self.app = Starlette(routes=[Route("/bell", self._ring, methods=["POST"])])

    async def _ring(self, request):
        await self.events.put(await request.json())
        return Response(status_code=self.statuses.pop(0) if self.statuses else 204)

    async def heard(self, count):
        return [await asyncio.wait_for(self.events.get(), 5) for _ in range(count)]


async def ring(receiver, prompt):
    """Submit to a fast mock that rings `receiver`; the answer's JSON, and two events."""
    async with (
        httpx.AsyncClient(timeout=5) as client,
        MockServer(receiver.app) as ours,
        MockServer(create_mock(speed=1000, client=client)) as mock,
    ):
        body = {"prompt": prompt, "callback_url": ours.url + "/bell"}
        answer = (await client.post(mock.url + "/v1/videos", json=body, headers=KEY)).json()
        return answer, await receiver.heard(2)


async def test_a_callback_is_tried_again_until_it_is_heard():
    answer, events = await ring(Receiver(503), "a fox")
    assert events[0] == events[1] == {"event_id": f"{answer['id']}.ended", "id": answer["id"], "status": "succeeded"}


async def test_a_callback_can_come_twice():
    _, events = await ring(Receiver(), "a fox [[callback:twice]]")
    assert events[0] == events[1]


async def test_a_callback_can_come_before_the_answer():
    answer, events = await ring(Receiver(), "a fox [[callback:early]]")
    assert [event["event_id"] for event in events] == [f"{answer['id']}.early", f"{answer['id']}.ended"]


async def test_a_callback_that_was_due_while_the_mock_was_down_rings_after_its_restart(tmp_path):
    clock, receiver = Clock(), Receiver()
    async with httpx.AsyncClient(timeout=5) as client, MockServer(receiver.app) as ours:
        async with MockServer(create_mock(tmp_path / "mock.db", client=client, clock=clock)) as mock:
            body = {"prompt": "a fox", "callback_url": ours.url + "/bell"}
            await client.post(mock.url + "/v1/videos", json=body, headers=KEY)
        clock.now += 3600
        async with MockServer(create_mock(tmp_path / "mock.db", client=client, clock=clock)):
            (event,) = await receiver.heard(1)
    assert event["status"] == "succeeded"


CHILD = """
import asyncio, sys
from pathlib import Path
from providers.mock.serve import MockServer
from providers.mock.server import create_mock
async def main():
    async with MockServer(create_mock(Path(sys.argv[1]), speed=1000)) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_killed_mock_forgets_nothing(tmp_path):
    path = tmp_path / "mock.db"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    url = (await asyncio.wait_for(child.stdout.readline(), 20)).decode().strip()
    async with httpx.AsyncClient(base_url=url, headers=KEY) as api:
        prompt = "a fox [[503-submit:1]]"
        assert (await order(api, prompt, key="k")).status_code == 503
        made = (await order(api, prompt, key="k")).json()
        await api.put("/faults", json=[{"fault": "429", "match": "owl"}])
        child.send_signal(signal.SIGKILL)
        await child.wait()
    async with (
        MockServer(create_mock(path, speed=1000)) as server,
        httpx.AsyncClient(base_url=server.url, headers=KEY) as api,
    ):
        assert [entry["id"] for entry in (await api.get("/ledger")).json()["entries"]] == [made["id"]]
        assert (await order(api, prompt, key="k")).json()["id"] == made["id"]
        assert (await order(api, "owl")).status_code == 429
        assert (await order(api, prompt)).status_code == 202


async def test_stopping_cuts_what_still_waits():
    server = MockServer(create_mock(), grace=0.05)
    await server.start()
    async with httpx.AsyncClient(base_url=server.url, headers=KEY) as api:
        waiting = asyncio.create_task(order(api, "[[slow-submit:60]]"))
        async with httpx.AsyncClient(base_url=server.url) as other:
            async with asyncio.timeout(5):
                while not (await other.get("/ledger")).json()["entries"]:
                    pass
        await server.stop()
        with pytest.raises(httpx.HTTPError):
            await waiting


async def test_the_server_leaves_signals_and_other_logs_alone():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    level = logging.getLogger("uvicorn.error").level
    async with MockServer(create_mock()):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        assert logging.getLogger("uvicorn.error").level == level


async def test_a_taken_port_is_an_error_of_the_caller():
    async with MockServer(create_mock()) as server:
        with pytest.raises(OSError, match="in use"):
            await MockServer(create_mock(), port=int(server.url.rsplit(":", 1)[1])).start()


def test_directives_are_read_from_the_prompt():
    assert directives("a [[429:2]] b [[slow:0.5]] [[fail:transient:1]] [[stuck]] [[unheard]] [[429:x]]") == (
        Directive("429", 2),
        Directive("slow", 0.5),
        Directive("fail:transient", 1),
        Directive("stuck", None),
    )


def test_every_fault_can_be_written_as_a_directive_and_has_one_sentence():
    for name, sentence in FAULTS.items():
        assert directives(f"[[{name}]]") == (Directive(name, None),)
        assert sentence.endswith(".")
