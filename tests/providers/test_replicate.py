"""Replicate's adapter: the contract, how predictions end, uploads, and signed callbacks."""

import asyncio
import base64
import hashlib
import hmac
import json

import pytest

from providers.base import (
    Accepted,
    ErrorCode,
    Media,
    Operation,
    Phase,
    ProviderError,
    Rejected,
    SubmitContext,
    VideoRequest,
)
from providers.registry import create_provider
from providers.replicate_wire import MAX_DATA, RESULT_SECONDS
from providers.wire import Clients
from tests.providers.contract import ProviderContract

pytestmark = pytest.mark.anyio

VERSION = "0123456789abcdef" * 4
VEO = "google/veo-3.1"
NOW = 1_800_000_000


class TestReplicate(ProviderContract):
    provider = "replicate"

    def options(self, url):
        return {"api_key": "r8_test", "url": f"{url}/replicate/v1"}

    @pytest.mark.parametrize("model", ["somebody/new-model", f"somebody/model:{VERSION}", VERSION])
    async def test_models_and_versions_that_the_catalogue_does_not_know_are_passed_on(self, stage, model):
        operation = await stage.accepted("a fox", model=model)
        assert operation.data == {"model": model}
        assert (await stage.poll_until(operation)).phase is Phase.SUCCEEDED

    async def test_the_id_is_enough_and_the_file_has_an_end(self, stage):
        operation = await stage.accepted("a fox")
        status = await stage.poll_until(Operation(operation.id))
        (entry,) = (await stage.client.get(f"{stage.mock_url}/ledger")).json()["entries"]
        assert status.outputs[0].expires_at == pytest.approx(entry["at"] + RESULT_SECONDS, abs=5)
        assert status.progress == 1.0

    async def test_progress_is_read_from_the_logs(self, stage):
        operation = await stage.accepted("a fox [[stuck]]")
        assert (await stage.provider.poll(operation)).progress == 0.5

    async def test_what_runs_is_charged_when_it_is_stopped_and_what_waits_is_not(self, stage):
        running = await stage.accepted("a fox [[stuck]]")
        assert (await stage.provider.cancel(running)).billed is True
        charged = (await stage.charges())["net_micros"]
        waiting = await stage.accepted("a fox [[slow:600]]")
        stop = await stage.provider.cancel(waiting)
        assert (stop.stopped, stop.billed) == (True, False)
        assert (await stage.charges())["net_micros"] == charged

    async def test_the_end_cannot_be_cancelled(self, stage):
        operation = await stage.accepted("a fox")
        await stage.poll_until(operation)
        assert not (await stage.provider.cancel(operation)).stopped

    async def test_failures_are_told_apart_by_their_words(self, stage):
        refused = await stage.poll_until(await stage.accepted("a fox [[fail:moderation]]"))
        assert (refused.error.code, refused.error.billed) == (ErrorCode.MODERATION, None)
        broken = await stage.poll_until(await stage.accepted("a fox [[fail:transient]]"))
        assert (broken.error.code, broken.error.resubmit) == (ErrorCode.TRANSIENT, False)
        final = await stage.poll_until(await stage.accepted("a fox [[fail:final]]"))
        assert final.error.code is ErrorCode.PROVIDER_ERROR

    async def test_a_large_picture_is_uploaded_before_and_its_address_sent(self, stage):
        picture = Media(data=b"\x89PNG" + bytes(MAX_DATA), mime_type="image/png")
        operation = await stage.accepted("a fox", image=picture, last_image=picture)
        url = f"{stage.mock_url}/replicate/v1/predictions/{operation.id}"
        shown = (await stage.client.get(url, headers={"authorization": "Bearer x"})).json()["input"]
        assert shown["image"].startswith(f"{stage.mock_url}/replicate/v1/files/")
        assert shown["last_frame"] == shown["image"]

    async def test_its_callback_is_genuine_and_no_other(self, stage, client):
        rung = asyncio.Queue()

        async def ring(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
            headers = {name.lower(): value for name, _, value in lines}
            await rung.put((headers, await reader.readexactly(int(headers["content-length"]))))
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(ring, "127.0.0.1", 0) as ours:
            url = f"http://127.0.0.1:{ours.sockets[0].getsockname()[1]}/callbacks/tok_9"
            await stage.provider.submit(VideoRequest("a fox [[drop-submit]]"), SubmitContext("tok_9", url))
            headers, body = await asyncio.wait_for(rung.get(), 5)
        now = float(headers["webhook-timestamp"])
        callback = await stage.provider.read_callback(headers, body, now)
        assert callback.event_id == f"msg_{callback.operation_id}_ended"
        assert (await stage.poll_until(Operation(callback.operation_id))).phase is Phase.SUCCEEDED
        for changed, late in ((body + b" ", 0), (body, 301), (body, -301)):
            with pytest.raises(ProviderError) as caught:
                await stage.provider.read_callback(headers, changed, now + late)
            assert caught.value.code is ErrorCode.AUTH
        given = (await client.get(f"{stage.mock_url}/replicate/v1/webhooks/default/secret", headers=BEARER)).json()
        knowing = create_provider(
            "replicate", Clients(None, None, None), {"api_key": "k", "webhook_secret": given["key"]}
        )
        assert await knowing.read_callback(headers, body, now) == callback


BEARER = {"authorization": "Bearer x"}
SECRET = base64.b64encode(b"s" * 24).decode()


def signed(body, now=NOW, secret=SECRET):
    mac = hmac.digest(base64.b64decode(secret), f"msg_1.{now}.".encode() + body, hashlib.sha256)
    signature = f"v1,AAAA v1,{base64.b64encode(mac).decode()}"
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(now), "Webhook-Signature": signature}


@pytest.fixture
def knowing():
    options = {"api_key": "k", "webhook_secret": f"whsec_{SECRET}"}
    return create_provider("replicate", Clients(None, None, None), options)


async def test_a_signed_prediction_is_a_callback(knowing):
    body = b'{"id": "p1", "status": "succeeded"}'
    callback = await knowing.read_callback(signed(body), body, float(NOW))
    assert (callback.event_id, callback.operation_id) == ("msg_1", "p1")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}", b'{"id": 5}', b'{"id": ""}'])
async def test_a_signed_body_of_another_form_is_refused(knowing, body):
    with pytest.raises(ProviderError) as caught:
        await knowing.read_callback(signed(body), body, float(NOW))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("missing", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
async def test_a_callback_without_one_of_its_headers_is_not_replicate_s(knowing, missing):
    headers = signed(b"{}")
    del headers[missing]
    with pytest.raises(ProviderError) as caught:
        await knowing.read_callback(headers, b"{}", float(NOW))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_a_secret_that_cannot_be_had_is_a_matter_of_time(client):
    options = {"api_key": "k", "url": "http://127.0.0.1:1"}
    provider = create_provider("replicate", Clients(client, client, client), options)
    with pytest.raises(ProviderError) as caught:
        await provider.read_callback(signed(b"{}"), b"{}", float(NOW))
    assert caught.value.code is ErrorCode.TRANSIENT


async def test_a_changed_secret_is_asked_for_once_a_minute(client):
    keys, asked = [SECRET, base64.b64encode(b"t" * 24).decode()], []

    async def tell(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.append(1)
        body = json.dumps({"key": f"whsec_{keys[0]}"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    body = b'{"id": "p1"}'
    async with await asyncio.start_server(tell, "127.0.0.1", 0) as theirs:
        url = f"http://127.0.0.1:{theirs.sockets[0].getsockname()[1]}"
        provider = create_provider("replicate", Clients(client, client, client), {"api_key": "k", "url": url})
        assert await provider.read_callback(signed(body), body, float(NOW))
        keys.pop(0)
        renewed = signed(body, NOW + 10, keys[0])
        with pytest.raises(ProviderError):
            await provider.read_callback(renewed, body, NOW + 10.0)
        assert await provider.read_callback(renewed, body, NOW + 61.0)
        with pytest.raises(ProviderError):
            await provider.read_callback(signed(body, NOW + 62), body, NOW + 62.0)
    assert len(asked) == 2


async def test_an_upload_that_fails_is_a_sure_refusal(client):
    provider = create_provider(
        "replicate", Clients(client, client, client), {"api_key": "k", "url": "http://127.0.0.1:1"}
    )
    picture = Media(data=bytes(MAX_DATA + 1))
    result = await provider.submit(VideoRequest("fox", image=picture), SubmitContext("tok"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed) == (ErrorCode.TRANSIENT, False)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "api_key"),
        ({"api_key": "k", "token": "x"}, "token"),
        ({"api_key": "k", "url": "api.replicate.com"}, "address"),
        ({"api_key": "k", "webhook_secret": "whsec_???"}, "whsec_ and base64"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_reason(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        create_provider("replicate", Clients(None, None, None), options)


async def test_the_mock_wants_a_key_and_lists_what_it_took(server, client):
    url = f"{server.url}/replicate/v1"
    body = {"input": {"prompt": "fox [[stuck]]", "image": "data:image/png;base64," + "A" * 4000}}
    assert (await client.post(f"{url}/models/{VEO}/predictions", json=body)).status_code == 401
    made = (await client.post(f"{url}/models/{VEO}/predictions", json=body, headers=BEARER)).json()
    assert (made["model"], made["version"], len(made["id"])) == (VEO, "hidden", 26)
    assert len(made["input"]["image"]) == 200
    page = (await client.get(f"{url}/predictions", headers=BEARER)).json()
    assert [each["id"] for each in page["results"]] == [made["id"]]
    assert (await client.post(f"{url}/files", headers=BEARER, files={"other": b"x"})).status_code == 422


async def test_a_submit_is_accepted_with_its_model(server, client):
    options = {"api_key": "k", "url": f"{server.url}/replicate/v1"}
    provider = create_provider("replicate", Clients(client, client, client), options)
    result = await provider.submit(VideoRequest("fox"), SubmitContext("tok"))
    assert isinstance(result, Accepted)
    assert result.operation.data["model"] == "google/veo-3.1-fast"
