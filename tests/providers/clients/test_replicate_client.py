"""Replicate's official client, unmodified, against the mock's dialect; and its own check of our signed callbacks."""

import asyncio
import io

import httpx
import pytest

replicate = pytest.importorskip("replicate")
from replicate.exceptions import ReplicateError  # noqa: E402
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret  # noqa: E402

pytestmark = pytest.mark.anyio

VEO = "google/veo-3.1"
VERSION = "0123456789abcdef" * 4


@pytest.fixture
async def official(server):
    client = replicate.Client(api_token="r8_test", base_url=f"{server.url}/replicate")
    client._async_client._transport.max_attempts = 1
    yield client
    await client._async_client.aclose()


async def ended(prediction):
    async with asyncio.timeout(10):
        while prediction.status in {"starting", "processing"}:
            await asyncio.sleep(0.005)
            await prediction.async_reload()
    return prediction


async def test_text_to_video_from_order_to_file(official, server, client):
    asked = {"prompt": "a fox", "duration": 4, "resolution": "720p", "seed": 7, "generate_audio": False}
    made = await official.models.predictions.async_create(VEO, input=asked)
    assert (made.status, made.input) == ("starting", asked)
    done = await ended(made)
    assert (done.status, done.error) == ("succeeded", None)
    assert (await client.get(done.output)).content[4:8] == b"ftyp"
    assert done.completed_at >= done.started_at
    (entry,) = (await client.get(f"{server.url}/ledger")).json()["entries"]
    assert (entry["dialect"], entry["charged_micros"], entry["id"]) == ("replicate", 1_600_000, made.id)
    assert (await official.predictions.async_get(made.id)).output is not None
    assert [each.id for each in (await official.predictions.async_list()).results] == [made.id]


@pytest.mark.parametrize("picture", ["https://a.test/1.png", "data:image/png;base64,iVBORw0="])
async def test_image_to_video(official, picture):
    asked = {"prompt": "a fox", "image": picture, "last_frame": picture}
    assert (await ended(await official.models.predictions.async_create(VEO, input=asked))).status == "succeeded"


async def test_image_to_video_from_a_file_which_the_client_uploads(official, server):
    asked = {"prompt": "a fox", "image": io.BytesIO(b"\x89PNG")}
    made = await official.models.predictions.async_create(VEO, input=asked)
    assert made.input["image"].startswith(f"{server.url}/replicate/v1/files/")


async def test_a_version_of_a_model(official):
    made = await official.predictions.async_create(version=VERSION, input={"prompt": "a fox"})
    assert made.version == VERSION
    assert (await ended(made)).status == "succeeded"


async def test_the_call_that_does_everything(official, client):
    official.poll_interval = 0.005
    output = await official.async_run(VEO, input={"prompt": "a fox"}, use_file_output=False)
    assert (await client.get(output)).content[4:8] == b"ftyp"


async def test_progress_and_cancel(official):
    made = await official.models.predictions.async_create(VEO, input={"prompt": "a fox [[stuck]]"})
    await made.async_reload()
    assert made.status == "processing"
    assert made.progress.percentage == 0.5
    await made.async_cancel()
    assert made.status == "canceled"


async def test_a_moderation_refusal_and_a_failure(official):
    asked = {"prompt": "a fox [[fail:moderation]]"}
    refused = await ended(await official.models.predictions.async_create(VEO, input=asked))
    assert refused.status == "failed"
    assert "E005" in refused.error
    asked = {"prompt": "a fox [[fail:transient]]"}
    broken = await ended(await official.models.predictions.async_create(VEO, input=asked))
    assert "please retry" in broken.error


@pytest.mark.parametrize(
    ("fault", "status"),
    [("401", 401), ("402", 402), ("429", 429), ("fail:invalid", 422), ("refuse:moderation", 422), ("503-submit", 503)],
)
async def test_refused_submits(official, fault, status):
    with pytest.raises(ReplicateError) as caught:
        await official.models.predictions.async_create(VEO, input={"prompt": f"a fox [[{fault}]]"})
    assert caught.value.status == status
    assert caught.value.detail


async def test_an_unknown_prediction_is_not_found(official):
    with pytest.raises(ReplicateError) as caught:
        await official.predictions.async_get("nobody")
    assert caught.value.status == 404


async def test_its_own_check_accepts_our_signed_callback(official):
    rung = asyncio.Queue()

    async def ring(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        headers = httpx.Headers([line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:]])
        await rung.put((dict(headers), (await reader.readexactly(int(headers["content-length"]))).decode()))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(ring, "127.0.0.1", 0) as ours:
        url = f"http://127.0.0.1:{ours.sockets[0].getsockname()[1]}/x"
        await official.models.predictions.async_create(
            VEO, input={"prompt": "a fox"}, webhook=url, webhook_events_filter=["completed"]
        )
        headers, body = await asyncio.wait_for(rung.get(), 5)
    secret = await official.webhooks.default.async_secret()
    Webhooks.validate(headers=headers, body=body, secret=secret)
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(headers=headers, body=body, secret=WebhookSigningSecret(key="whsec_" + "c" * 32))
