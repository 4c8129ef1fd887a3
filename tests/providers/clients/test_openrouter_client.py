"""OpenRouter's official client, unmodified, against the mock's dialect; and the mock's signed callback."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

import pytest

from providers.registry import create_provider
from providers.wire import Clients

openrouter = pytest.importorskip("openrouter")
pytestmark = pytest.mark.anyio

ASKED = {"model": "google/veo-3.1", "duration": 4, "resolution": "720p", "aspect_ratio": "16:9"}
PENDING = {"pending", "in_progress"}
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()


@pytest.fixture
async def official(server):
    url = f"{server.url}/openrouter/api/v1"
    async with openrouter.OpenRouter(api_key="sk-or-test", server_url=url, retry_config=None) as client:
        yield client.video_generation


async def ended(official, job):
    async with asyncio.timeout(10):
        while (now := await official.get_generation_async(job_id=job.id)).status in PENDING:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    return now


async def test_text_to_video_from_order_to_file(official, server, client):
    job = await official.generate_async(prompt="a fox", seed=7, generate_audio=True, user="u", session_id="s", **ASKED)
    assert (job.status, job.polling_url) == ("pending", f"/openrouter/api/v1/videos/{job.id}")
    done = await ended(official, job)
    assert (done.status, done.usage.cost, done.error) == ("completed", 1.6, None)
    file = await official.get_video_content_async(job_id=job.id, index=0)
    body = await file.aread()
    assert body[4:8] == b"ftyp"
    assert (await client.get(done.urls[0])).content == body
    assert (await client.get(done.unsigned_urls[0])).status_code == 401
    (entry,) = (await client.get(f"{server.url}/ledger")).json()["entries"]
    assert (entry["dialect"], entry["charged_micros"], entry["reference"]) == ("openrouter", 1_600_000, "s")


@pytest.mark.parametrize("url", ["https://pictures.test/a.png", PICTURE])
async def test_image_to_video(official, url):
    frames = [
        {"type": "image_url", "image_url": {"url": url}, "frame_type": kind} for kind in ("first_frame", "last_frame")
    ]
    job = await official.generate_async(prompt="a fox", frame_images=frames, **ASKED)
    assert (await ended(official, job)).status == "completed"


async def test_what_a_maker_takes_is_passed_through(official):
    provider = {"options": {"google-vertex": {"parameters": {"negativePrompt": "blur"}}}}
    assert (await official.generate_async(prompt="a fox", provider=provider, **ASKED)).status == "pending"


async def test_the_models_are_those_of_the_catalogue(official):
    listed = {model.id: model for model in (await official.list_videos_models_async()).data}
    veo = listed["google/veo-3.1"]
    assert (veo.supported_durations, veo.supported_resolutions) == ([4, 6, 8], ["720p", "1080p", "4K"])
    assert veo.pricing_skus == {"per-video-second": "0.400000", "per-video-second-4k": "0.600000"}


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("refuse:moderation", "ForbiddenResponseError", 403),
        ("fail:invalid", "BadRequestResponseError", 400),
        ("401", "UnauthorizedResponseError", 401),
        ("402", "PaymentRequiredResponseError", 402),
        ("429", "TooManyRequestsResponseError", 429),
        ("500-submit", "InternalServerResponseError", 500),
        ("503-submit", "ServiceUnavailableResponseError", 503),
    ],
)
async def test_refusals_are_the_clients_own_errors(official, fault, kind, status):
    with pytest.raises(openrouter.errors.OpenRouterError) as caught:
        await official.generate_async(prompt=f"a fox [[{fault}:1]]", **ASKED)
    assert (type(caught.value).__name__, caught.value.status_code) == (kind, status)


async def test_a_moderation_refusal_says_why(official):
    with pytest.raises(openrouter.errors.ForbiddenResponseError) as caught:
        await official.generate_async(prompt="a fox [[refuse:moderation]]", **ASKED)
    assert caught.value.data.error.metadata["reasons"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration": 7},
        {"resolution": "480p"},
        {"aspect_ratio": "2:3"},
        {"prompt": " "},
        {"session_id": "s" * 257},
        {"callback_url": "http://us.test/tok"},
        {"frame_images": [{"type": "image_url", "image_url": {"url": "a.png"}, "frame_type": "first_frame"}]},
        {"frame_images": [{"type": "image_url", "image_url": {"url": PICTURE}, "frame_type": "middle"}]},
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of the client, for "middle"
async def test_what_the_model_does_not_offer_is_400(official, wrong):
    with pytest.raises(openrouter.errors.BadRequestResponseError):
        await official.generate_async(**{"prompt": "a fox", **ASKED, **wrong})


@pytest.mark.parametrize(
    ("fault", "word"), [("moderation", "Sensitive"), ("transient", "internal"), ("final", "could")]
)
async def test_a_failed_job_says_why_and_costs_nothing(official, fault, word):
    done = await ended(official, await official.generate_async(prompt=f"a fox [[fail:{fault}]]", **ASKED))
    assert (done.status, done.usage.cost) == ("failed", 0)
    assert word in done.error


async def test_jobs_that_are_unknown_or_not_done(official):
    with pytest.raises(openrouter.errors.NotFoundResponseError):
        await official.get_generation_async(job_id="gen-vid-0")
    job = await official.generate_async(prompt="a fox [[stuck]]", **ASKED)
    with pytest.raises(openrouter.errors.ConflictResponseError):
        await official.get_video_content_async(job_id=job.id)


@asynccontextmanager
async def doorbell():
    """A URL, and what is posted to it as (headers, body)."""
    rung = asyncio.Queue()

    async def ring(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        lengths = {name.lower(): value for name, value in headers.items()}
        await rung.put((headers, await reader.readexactly(int(lengths["content-length"]))))
        writer.write(b"HTTP/1.1 204 Fine\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(ring, "127.0.0.1", 0) as ours:
        yield f"http://127.0.0.1:{ours.sockets[0].getsockname()[1]}/callbacks/tok", rung


async def test_the_signed_callback_is_believed_by_our_adapter(official, server, client):
    secret = (await client.get(f"{server.url}/openrouter/webhook_secret")).json()["secret"]
    options = {"api_key": "k", "url": f"{server.url}/openrouter", "webhook_secret": secret}
    provider = create_provider("openrouter", Clients(client, client, client), options)
    async with doorbell() as (url, rung):
        job = await official.generate_async(prompt="a fox [[callback:twice]]", callback_url=url, **ASKED)
        told = [await asyncio.wait_for(rung.get(), 5) for _ in range(2)]
    for headers, body in told:
        timestamp = float(headers["x-openrouter-signature"].partition(",")[0].removeprefix("t="))
        callback = await provider.read_callback(headers, body, timestamp)
        assert callback.operation_id == job.id
        assert callback.event_id == headers["x-openrouter-idempotency-key"] == f"{job.id}-completed"
        assert json.loads(body)["type"] == "video.generation.completed"
