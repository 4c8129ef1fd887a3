"""OpenAI's official client, unmodified, against the mock's `/v1/videos`; answers must fit its published schema."""

import asyncio

import pytest

openai = pytest.importorskip("openai")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]

ASKED = {"model": "sora-2", "seconds": "4", "size": "1280x720"}
PENDING = {"queued", "in_progress"}


@pytest.fixture
async def official(server):
    async with openai.AsyncOpenAI(
        api_key="sk-test",
        base_url=f"{server.url}/openai_videos/v1",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client.videos


async def ended(official, video):
    async with asyncio.timeout(10):
        while (now := await official.retrieve(video.id)).status in PENDING:  # noqa: ASYNC110 - no event to await
            await asyncio.sleep(0.005)
    return now


async def test_text_to_video_from_order_to_file(official, server, client):
    video = await official.create(prompt="a fox é", **ASKED)
    assert (video.status, video.seconds, video.size, video.model) == ("queued", "4", "1280x720", "sora-2")
    done = await ended(official, video)
    assert (done.status, done.progress, done.error, done.prompt) == ("completed", 100, None, "a fox é")
    assert done.expires_at > done.completed_at >= done.created_at
    body = (await official.download_content(video.id)).content
    assert body[4:8] == b"ftyp"
    (entry,) = (await client.get(f"{server.url}/ledger")).json()["entries"]
    assert (entry["dialect"], entry["charged_micros"]) == ("openai_videos", 400_000)


async def test_the_clients_own_polling(official):
    assert (await official.create_and_poll(prompt="a fox", poll_interval_ms=10, **ASKED)).status == "completed"


async def test_what_is_left_out_is_the_dialects_default(official):
    video = await official.create(prompt="a fox")
    assert (video.model, video.seconds, video.size) == ("sora-2", "4", "720x1280")


@pytest.mark.parametrize(
    "reference",
    [
        {"input_reference": ("a.png", b"\x89PNG\r\n\r\n--", "image/png")},
        {"extra_body": {"input_reference": {"image_url": "https://pictures.test/a.png"}}},
        {"extra_body": {"input_reference": {"image_url": "data:image/png;base64,aA=="}, "seed": 7, "x": {"y": [1, 2]}}},
    ],
)
async def test_image_to_video(official, reference):
    video = await official.create(prompt="a fox", **ASKED, **reference)
    assert (await ended(official, video)).status == "completed"


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("refuse:moderation", "BadRequestError", "moderation_blocked"),
        ("fail:invalid", "BadRequestError", None),
        ("401", "AuthenticationError", "invalid_api_key"),
        ("402", "RateLimitError", "insufficient_quota"),
        ("429", "RateLimitError", "rate_limit_exceeded"),
        ("500-submit", "InternalServerError", None),
        ("503-submit", "InternalServerError", None),
    ],
)
async def test_refusals_are_the_clients_own_errors(official, fault, kind, code):
    with pytest.raises(openai.APIStatusError) as caught:
        await official.create(prompt=f"a fox [[{fault}:1]]", **ASKED)
    assert (type(caught.value).__name__, caught.value.code) == (kind, code)
    assert caught.value.body["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": "7"},
        {"seconds": "four"},
        {"size": "1792x1024"},
        {"size": "large"},
        {"prompt": " "},
        {"model": ""},
        {"input_reference": ("a.txt", b"hello", "text/plain")},
        {"extra_body": {"input_reference": {"image_url": "a.png"}}},
    ],
)
async def test_what_the_model_does_not_offer_is_400(official, wrong):
    with pytest.raises(openai.BadRequestError):
        await official.create(**{"prompt": "a fox", **ASKED, **wrong})


@pytest.mark.parametrize(
    ("fault", "code"),
    [("moderation", "moderation_blocked"), ("transient", "server_error"), ("final", "generation_failed")],
)
async def test_a_failed_video_says_why(official, fault, code):
    done = await ended(official, await official.create(prompt=f"a fox [[fail:{fault}]]", **ASKED))
    assert (done.status, done.error.code) == ("failed", code)
    assert done.error.message


async def test_videos_that_are_unknown_or_not_done(official):
    with pytest.raises(openai.NotFoundError):
        await official.retrieve("video_0")
    video = await official.create(prompt="a fox [[stuck]]", **ASKED)
    with pytest.raises(openai.NotFoundError):
        await official.download_content(video.id)
    with pytest.raises(openai.BadRequestError):
        await official.download_content(video.id, variant="thumbnail")


async def test_json_is_taken_as_well(server, client):
    url, key = f"{server.url}/openai_videos/v1/videos", {"authorization": "Bearer k"}
    answer = await client.post(url, headers=key, json={"prompt": "a fox", **ASKED})
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert (await client.post(url, headers=key, json={"prompt": "a fox", "seconds": 4})).status_code == 400
    assert (await client.post(url, json={"prompt": "a fox"})).status_code == 401
    assert (await client.post(url, headers=key, content=b"prompt=a+fox")).status_code == 400
