"""Gemini's callbacks: those that a request asked for, signed with a JWT, and those of a registered webhook."""

import asyncio
import base64
import json
import time
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from standardwebhooks import Webhook

from providers.base import ErrorCode, Operation, Phase, ProviderError, SubmitContext, VideoRequest
from providers.checks import settled
from providers.google_omni_wire import read_event
from providers.registry import create_provider
from providers.wire import Clients

pytestmark = pytest.mark.anyio
TOKEN = "sub_0199AB"
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture
def omni(server, client):
    return made(server.url, client)


def made(url, client, **options):
    given = {"api_key": "k", "url": f"{url}/google_omni", **options}
    return create_provider("google_omni", Clients(client, client, client), given)


async def rung(omni, prompt="a fox"):
    """The first callback that the mock rings for a video: headers and body."""
    heard = asyncio.Queue()

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int({k.lower(): v for k, v in fields.items()}["content-length"]))
        await heard.put((fields, body))
        writer.write(b"HTTP/1.1 204 Fine\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as ours:
        url = f"http://127.0.0.1:{ours.sockets[0].getsockname()[1]}/callbacks/x"
        request = settled(VideoRequest(prompt), omni.capabilities.catalogue)
        result = await omni.submit(request, SubmitContext(TOKEN, url))
        fields, body = await asyncio.wait_for(heard.get(), 10)
    return result, fields, body


async def test_the_mocks_callback_is_verified_by_its_published_key(omni):
    result, fields, body = await rung(omni)
    callback = await omni.read_callback(fields, body, time.time())
    assert (callback.operation_id, callback.event_id) == (result.operation.id, fields["webhook-id"])
    assert json.loads(body)["type"] == "interaction.completed"
    for late in (-400, 400):
        with pytest.raises(ProviderError) as caught:
            await omni.read_callback(fields, body, time.time() + late)
        assert caught.value.code is ErrorCode.AUTH


async def test_a_callback_comes_after_a_submit_whose_answer_was_lost(omni):
    result, fields, body = await rung(omni, "a fox [[drop-submit]]")
    assert type(result).__name__ == "Unknown"
    callback = await omni.read_callback(fields, body, time.time())
    assert (await omni.poll(Operation(callback.operation_id))).phase is Phase.SUCCEEDED


async def test_a_forged_callback_is_refused(omni):
    _, fields, body = await rung(omni)
    key = rsa.generate_private_key(65537, 2048)
    kid = jwt.get_unverified_header(fields["webhook-signature"])["kid"]
    forged = [jwt.encode({"iat": int(time.time())}, key, "RS256", headers={"kid": each}) for each in (kid, "other")]
    unsigned = jwt.encode({"iat": int(time.time())}, None, "none", headers={"kid": kid})
    for signature in (*forged, unsigned):
        with pytest.raises(ProviderError) as caught:
            await omni.read_callback(fields | {"webhook-signature": signature}, body, time.time())
        assert caught.value.code is ErrorCode.AUTH


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-signature", "webhook-timestamp"])
async def test_a_callback_without_its_headers_is_none(omni, missing):
    headers = {"webhook-id": "e", "webhook-signature": "e30.e30.x", "webhook-timestamp": "1700000000"}
    del headers[missing]
    with pytest.raises(ProviderError) as caught:
        await omni.read_callback(headers, b"{}", 1_700_000_000.0)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def signed(body, secret=SECRET):
    told = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", told, body)
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(told.timestamp())), "Webhook-Signature": signature}


BODY = json.dumps({"type": "interaction.failed", "version": "v1", "data": {"id": "v1_a", "error_code": "x"}})


async def test_a_registered_webhook_is_verified_by_its_secret(server, client):
    omni = made(server.url, client, webhook_secret=SECRET)
    callback = await omni.read_callback(signed(BODY), BODY.encode(), time.time())
    assert (callback.event_id, callback.operation_id) == ("msg_1", "v1_a")
    other = "whsec_" + base64.b64encode(b"o" * 24).decode()
    for provider, headers in ((omni, signed(BODY, other)), (made(server.url, client), signed(BODY))):
        with pytest.raises(ProviderError) as caught:
            await provider.read_callback(headers, BODY.encode(), time.time())
        assert caught.value.code is ErrorCode.AUTH


def test_other_events_name_no_interaction():
    assert read_event("e", b'{"type": "batch.succeeded", "data": {"id": "b"}}').operation_id is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"type": 5, "data": {"id": "x"}}', b'{"type": "x", "data": {"id": 5}}', b"[" * 10_000],
)
def test_an_event_of_another_form_is_refused(body):
    with pytest.raises(ProviderError) as caught:
        read_event("e", body)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
