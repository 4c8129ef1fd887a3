"""Luma's official client, unmodified and strict about the published schema, against the mock's dialect."""

import asyncio

import pytest

luma_agents = pytest.importorskip("luma_agents")
pytestmark = pytest.mark.anyio

ASKED = {"model": "ray-3.2", "type": "video"}
PICTURE = {"url": "https://pictures.test/a.png"}
BYTES = {"data": "iVBORw0KGgo=", "media_type": "image/png"}


@pytest.fixture
async def official(server):
    async with luma_agents.AsyncLuma(
        auth_token="luma-x",
        base_url=f"{server.url}/luma/v1",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


async def totals(server, client):
    return (await client.get(f"{server.url}/ledger")).json()["totals"]


async def ended(official, generation):
    async with asyncio.timeout(10):
        while (now := await official.generations.get(generation.id)).state in {"queued", "processing"}:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    return now


async def test_text_to_video_from_order_to_file(official, server, client):
    video = {"duration": "10s", "resolution": "1080p", "loop": False}
    generation = await official.generations.create(
        prompt="a fox", aspect_ratio="16:9", user_id="u1", video=video, **ASKED
    )
    assert (generation.state, generation.model, generation.type) == ("queued", "ray-3.2", "video")
    done = await ended(official, generation)
    assert (done.state, done.failure_code) == ("completed", None)
    assert (await client.get(done.output[0].url)).content[4:8] == b"ftyp"
    assert (await totals(server, client))["net_micros"] == 2_400_000


@pytest.mark.parametrize(
    "frames",
    [
        {"start_frame": PICTURE},
        {"start_frame": BYTES, "end_frame": PICTURE},
        {"duration": "10s", "keyframes": [PICTURE, BYTES], "keyframe_indexes": [0, 240]},
    ],
)
async def test_image_to_video(official, frames):
    generation = await official.generations.create(prompt="a fox", video={"duration": "5s", **frames}, **ASKED)
    assert (await ended(official, generation)).state == "completed"


async def test_a_running_generation_fits_the_schema(official):
    generation = await official.generations.create(prompt="a fox [[stuck]]", **ASKED)
    now = await official.generations.get(generation.id)
    assert (now.state, now.output) == ("processing", [])


@pytest.mark.parametrize(
    ("fault", "code"),
    [("moderation", "content_moderated"), ("transient", "generation_failed"), ("final", "corrupt_input")],
)
async def test_failures_say_why(official, fault, code):
    failed = await ended(official, await official.generations.create(prompt=f"a fox [[fail:{fault}]]", **ASKED))
    assert (failed.state, failed.failure_code) == ("failed", code)
    assert failed.failure_reason


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("401", "AuthenticationError", "API key"),
        ("402", "APIStatusError", "balance"),
        ("429", "RateLimitError", "Rate limit"),
        ("fail:invalid", "BadRequestError", "not valid"),
        ("refuse:moderation", "BadRequestError", "moderation"),
        ("503-submit", "InternalServerError", "not available"),
        ("500-submit", "InternalServerError", "wrong"),
    ],
)
async def test_refusals_are_the_clients_own_errors(official, fault, error, says):
    with pytest.raises(getattr(luma_agents, error)) as caught:
        await official.generations.create(prompt=f"a fox [[{fault}]]", **ASKED)
    assert says in caught.value.body["detail"]
    assert fault != "402" or caught.value.status_code == 402


async def test_what_nobody_made_is_not_found(official):
    with pytest.raises(luma_agents.NotFoundError):
        await official.generations.get("0" * 8)


async def test_the_client_by_itself_would_pay_again(official, server, client):
    """Why we speak HTTP ourselves: one call, a lost answer, two charges."""
    eager = official.with_options(max_retries=1)
    generation = await eager.generations.create(prompt="a fox [[drop-submit:1]]", **ASKED)
    assert generation.id
    assert (await totals(server, client))["accepted"] == 2
