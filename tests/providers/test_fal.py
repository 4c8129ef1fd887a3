"""fal's adapter: the contract, how runs end and are stopped, and its signed callbacks."""

import asyncio
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from providers.base import (
    Accepted,
    ErrorCode,
    Operation,
    Phase,
    ProviderError,
    SubmitContext,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.registry import create_provider
from providers.wire import Clients
from tests.providers.contract import ProviderContract

pytestmark = pytest.mark.anyio

VEO = "fal-ai/veo3.1/fast"
CATALOGUE = load_catalogue("fal")


class TestFal(ProviderContract):
    provider = "fal"

    def options(self, url):
        return {**super().options(url), "jwks_url": f"{url}/fal/.well-known/jwks.json"}

    async def test_a_model_that_the_catalogue_does_not_know_is_passed_on(self, stage):
        operation = await stage.accepted("a fox", model="somebody/new-model/v2/text-to-video")
        assert operation.data["status_url"].endswith(f"/fal/somebody/new-model/requests/{operation.id}/status")
        assert (await stage.poll_until(operation)).phase is Phase.SUCCEEDED

    async def test_id_and_model_are_enough(self, stage):
        operation = await stage.accepted("a fox", model=VEO)
        assert (await stage.poll_until(Operation(operation.id, {"model": VEO}))).phase is Phase.SUCCEEDED

    async def test_the_failure_of_a_runner_is_free_and_may_be_asked_again(self, stage):
        status = await stage.poll_until(await stage.accepted("a fox [[fail:transient]]"))
        assert (status.error.code, status.error.provider_code) == (ErrorCode.TRANSIENT, "runner_disconnected")
        assert (status.error.billed, status.error.resubmit) == (False, True)

    async def test_a_failure_of_the_model_is_free_and_final(self, stage):
        status = await stage.poll_until(await stage.accepted("a fox [[fail:final]]"))
        assert (status.error.provider_code, status.error.billed) == ("internal_server_error", False)
        assert not status.error.resubmit
        assert (await stage.charges())["net_micros"] == 0

    async def test_a_refused_run_may_be_charged(self, stage):
        status = await stage.poll_until(await stage.accepted("a fox [[fail:moderation]]"))
        assert (status.error.provider_code, status.error.billed) == ("content_policy_violation", None)

    async def test_the_end_cannot_be_cancelled(self, stage):
        operation = await stage.accepted("a fox")
        await stage.poll_until(operation)
        assert not (await stage.provider.cancel(operation)).stopped

    async def test_what_nobody_knows_cannot_be_cancelled(self, stage):
        with pytest.raises(ProviderError) as caught:
            await stage.provider.cancel(Operation("nobody"))
        assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_its_callback_is_genuine_and_no_other(self, stage, server, client):
        rung = asyncio.Queue()

        async def ring(reader, writer):
            head, _, more = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
            headers = {name.lower(): value for name, _, value in lines}
            body = more + await reader.readexactly(int(headers["content-length"]) - len(more))
            await rung.put((headers, body))
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(ring, "127.0.0.1", 0) as ours:
            url = f"http://127.0.0.1:{ours.sockets[0].getsockname()[1]}/callbacks/tok_9?a=1&b=2"
            asked = VideoRequest("a fox [[drop-submit]]", model=VEO)
            await stage.provider.submit(asked, SubmitContext("tok_9", url))
            headers, body = await asyncio.wait_for(rung.get(), 5)
        now = float(headers["x-fal-webhook-timestamp"])
        callback = await stage.provider.read_callback(headers, body, now)
        assert callback.event_id == f"{callback.operation_id}.{callback.operation_id}.OK"
        found = Operation(callback.operation_id, {"model": VEO})
        assert (await stage.poll_until(found)).phase is Phase.SUCCEEDED
        assert json.loads(body)["payload"]["video"]["url"].startswith(server.url)
        for changed, late in ((body + b" ", 0), (body, 301), (body, -301)):
            with pytest.raises(ProviderError) as caught:
                await stage.provider.read_callback(headers, changed, now + late)
            assert caught.value.code is ErrorCode.AUTH


KEY = Ed25519PrivateKey.from_private_bytes(b"7" * 32)


def signed(body, now, key=KEY):
    lines = ["r-1", "u-1", str(now), hashlib.sha256(body).hexdigest()]
    signature = key.sign("\n".join(lines).encode()).hex()
    names = ("Request-Id", "User-Id", "Timestamp", "Signature")
    return {f"X-Fal-Webhook-{name}": text for name, text in zip(names, [*lines[:3], signature], strict=True)}


@pytest.fixture
async def provider(server, client):
    options = {"api_key": "a:b", "jwks_url": f"{server.url}/fal/.well-known/jwks.json"}
    return create_provider("fal", Clients(client, client, client), options)


async def test_another_key_s_callback_is_refused(provider):
    body = b'{"request_id": "r-1", "status": "OK"}'
    with pytest.raises(ProviderError) as caught:
        await provider.read_callback(signed(body, 1_800_000_000), body, 1_800_000_000.0)
    assert caught.value.code is ErrorCode.AUTH


@pytest.mark.parametrize("missing", ["Request-Id", "User-Id", "Timestamp", "Signature"])
async def test_a_callback_without_one_of_its_headers_is_not_fal_s(provider, missing):
    headers = signed(b"{}", 1_800_000_000)
    del headers[f"X-Fal-Webhook-{missing}"]
    with pytest.raises(ProviderError) as caught:
        await provider.read_callback(headers, b"{}", 1_800_000_000.0)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_keys_that_cannot_be_had_are_a_matter_of_time(client):
    options = {"api_key": "a:b", "jwks_url": "http://127.0.0.1:1/none"}
    provider = create_provider("fal", Clients(client, client, client), options)
    with pytest.raises(ProviderError) as caught:
        await provider.read_callback(signed(b"{}", 1_800_000_000), b"{}", 1_800_000_000.0)
    assert caught.value.code is ErrorCode.TRANSIENT


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({}, "api_key"), ({"api_key": "k", "key": "x"}, "key"), ({"api_key": "k", "url": "queue.fal.run"}, "address")],
)
def test_a_wrong_configuration_is_refused_with_a_reason(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        create_provider("fal", Clients(None, None, None), options)


async def test_the_mock_wants_a_key_an_endpoint_and_the_right_app(server, client):
    url, key = f"{server.url}/fal", {"authorization": "Key a:b"}
    assert (await client.post(f"{url}/{VEO}", json={"prompt": "fox"})).status_code == 401
    assert (await client.post(f"{url}/veo", json={"prompt": "fox"}, headers=key)).status_code == 404
    made = (await client.post(f"{url}/{VEO}", json={"prompt": "fox [[stuck]]"}, headers=key)).json()
    assert made["status"] == "IN_QUEUE"
    assert (await client.get(f"{url}/a/b/requests/{made['request_id']}/status", headers=key)).status_code == 404
    assert (await client.get(made["status_url"], headers=key)).status_code == 202
    assert (await client.get(made["response_url"], headers=key)).status_code == 400
    assert (await client.put(made["cancel_url"], headers=key)).json() == {"status": "CANCELLATION_REQUESTED"}
    assert (await client.put(made["cancel_url"], headers=key)).json() == {"status": "ALREADY_COMPLETED"}


async def test_a_submit_is_accepted_with_its_model(server, client):
    options = {"api_key": "a:b", "url": f"{server.url}/fal"}
    provider = create_provider("fal", Clients(client, client, client), options)
    result = await provider.submit(VideoRequest("fox"), SubmitContext("tok"))
    assert isinstance(result, Accepted)
    assert result.operation.data["model"] == CATALOGUE.default_model
