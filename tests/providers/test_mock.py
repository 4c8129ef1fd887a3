"""The mock's adapter: the contract in each of its recovery modes, and what is sent in which mode."""

import asyncio
import base64

import httpx
import pytest

from providers.base import ErrorCode, Media, Phase, ProviderError, Stop, SubmitContext, VideoRequest
from providers.mock.adapter_wire import build_submit, read_found, read_status, read_stopped, read_submitted
from providers.registry import PROVIDERS, create_provider
from providers.wire import Clients
from tests.providers.contract import SPEED, ProviderContract, Stage

pytestmark = pytest.mark.anyio


def stage_at(url, client, recovery="key"):
    options = {"url": url, "recovery": recovery, "speed": str(SPEED)}
    return Stage(create_provider("mock", Clients(client, client, client), options), url, client)


class TestMockWithKey(ProviderContract):
    provider = "mock"

    def options(self, url):
        return {"url": url, "recovery": "key", "speed": str(SPEED)}


@pytest.mark.parametrize("recovery", ["lookup", "callback", "none"])
async def test_other_modes_clear_up_what_they_can(server, client, recovery):
    stage = stage_at(server.url, client, recovery)
    if recovery == "lookup":
        await ProviderContract().test_an_unknown_submit_is_cleared_up_by_what_is_offered(stage)
    else:
        await stage.accepted("a fox", token="tok_9")
        await stage.accepted("a fox", token="tok_9")
        assert (await stage.charges())["accepted"] == 2


async def test_a_callback_names_its_operation_even_after_a_dropped_submit(server, client):
    rung = asyncio.Queue()

    async def ring(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await rung.put((head, await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 204 Fine\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(ring, "127.0.0.1", 0) as ours:
        url = f"http://127.0.0.1:{ours.sockets[0].getsockname()[1]}/callbacks/tok_9"
        provider = stage_at(server.url, client, "callback").provider
        await provider.submit(VideoRequest("a fox [[drop-submit]]"), SubmitContext("tok_9", url))
        head, body = await asyncio.wait_for(rung.get(), 5)
    callback = await provider.read_callback({}, body, 0.0)
    assert b"/callbacks/tok_9" in head
    assert callback.event_id == f"{callback.operation_id}.ended"
    assert (await client.get(f"{server.url}/ledger")).json()["entries"][0]["id"] == callback.operation_id


async def test_a_slow_answer_beyond_the_timeout_is_unknown_but_charged(server):
    async with httpx.AsyncClient(timeout=0.1) as hasty:
        stage = stage_at(server.url, hasty)
        result = await stage.submit("a fox [[slow-submit:60]]")
        assert type(result).__name__ == "Unknown"
        assert (await stage.charges())["accepted"] == 1


@pytest.mark.parametrize(
    ("recovery", "sent"),
    [
        ("key", {"idempotency-key": "tok"}),
        ("lookup", {"reference": "tok"}),
        ("callback", {"callback_url": "https://us.test/tok"}),
        ("none", {}),
    ],
)
def test_the_token_travels_only_in_its_own_mode(recovery, sent):
    context = SubmitContext("tok", "https://us.test/tok")
    call = build_submit("http://mock", {"authorization": "Bearer k"}, recovery, VideoRequest("fox"), context)
    travelled = {**call.headers, **call.json}
    assert {name: travelled.get(name) for name in ("idempotency-key", "reference", "callback_url")} == {
        "idempotency-key": None,
        "reference": None,
        "callback_url": None,
        **sent,
    }
    assert call.json["prompt"] == "fox"


def test_extra_goes_last_and_pictures_become_base64():
    request = VideoRequest("fox", seed=1, image=Media(data=b"png", mime_type="image/png"), extra={"seed": 2, "x": 1})
    body = build_submit("http://mock", {}, "none", request, SubmitContext("tok")).json
    picture = {"data_base64": base64.b64encode(b"png").decode(), "mime_type": "image/png"}
    assert body == {"prompt": "fox", "seed": 2, "x": 1, "image": picture}


@pytest.mark.parametrize("body", [{}, {"status": 5}, {"status": "succeeded"}, {"status": "succeeded", "output": {}}])
def test_a_status_that_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_status(body)
    assert caught.value.code is ErrorCode.UNREADABLE


def test_a_failure_without_a_known_reason_is_final_and_its_bill_unknown():
    status = read_status({"status": "failed", "progress": "half", "cost_micros": "x", "error": None})
    assert (status.phase, status.progress, status.cost_micros) == (Phase.FAILED, None, None)
    assert (status.error.code, status.error.billed, status.error.resubmit) == (ErrorCode.PROVIDER_ERROR, None, False)


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match="names no video"):
        read_submitted(202, {}, body)


@pytest.mark.parametrize("body", [{}, {"videos": {}}, {"videos": [5]}])
def test_a_lookup_that_makes_no_sense_is_not_taken_for_not_found(body):
    with pytest.raises(ProviderError) as caught:
        read_found(body)
    assert caught.value.code is ErrorCode.UNREADABLE


def test_capabilities_follow_from_the_mode():
    made = {mode: stage_at("http://mock", None, mode).provider.capabilities for mode in ("key", "lookup", "callback")}
    assert made["key"].recovery.idempotency_seconds == 86_400
    assert made["lookup"].recovery.lookup_quiet_seconds == 2
    assert made["callback"].recovery.callback_seconds == pytest.approx(30.1)
    assert made["key"].catalogue.models["mock-1"].typical_seconds == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("veo9", {}, "no provider 'veo9'"),
        ("mock", {}, "needs url"),
        ("mock", {"url": "x", "speeed": "1"}, "speeed"),
        ("mock", {"url": "x", "speed": "fast"}, "fast"),
        ("mock", {"url": "x", "recovery": "magic"}, "recovery must be"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_reason(name, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        create_provider(name, Clients(None, None, None), options)


def test_every_registered_provider_is_named_as_it_is_registered():
    assert all(factory.__self__.name == name for name, factory in PROVIDERS.items())


@pytest.mark.parametrize(
    ("body", "stop"),
    [
        ({"status": "cancelled", "cost_micros": 0}, Stop(True, False)),
        ({"status": "failed", "cost_micros": 5}, Stop(True, True)),
        ({"status": "succeeded", "cost_micros": 5}, Stop(False)),
        ({"status": {}}, Stop(False)),
        ({}, Stop(False)),
    ],
)
def test_what_a_cancel_came_to(body, stop):
    assert read_stopped(body) == stop
