"""google-genai, unmodified, makes videos at the mock's Interactions API. It runs in threads, as a script would."""

import asyncio
import base64
import time

import pytest

genai = pytest.importorskip("google.genai")
from google.genai import types  # noqa: E402
from google.genai._gaos.lib import compat_errors as errors  # noqa: E402

pytestmark = pytest.mark.anyio

MODEL = "gemini-omni-1.2-flash"
FORM = {"type": "video", "aspect_ratio": "16:9", "delivery": "uri", "duration": "5s", "resolution": "720p"}


@pytest.fixture(params=["v1", "v1beta"])
def official(server, request):
    options = types.HttpOptions(
        base_url=f"{server.url}/google_omni",
        api_version=request.param,
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    client = genai.Client(api_key="test-key", http_options=options)
    yield client
    client.close()


def create(official, given="a fox", **options):
    form = FORM | options.pop("form", {})
    return official.interactions.create(
        model=MODEL, background=True, input=given, response_format=form, labels={"job": "j1"}, **options
    )


def ended(official, made):
    until = time.monotonic() + 10
    while (now := official.interactions.get(made.id)).status in {"queued", "in_progress"}:
        assert time.monotonic() < until
        time.sleep(0.01)
    return now


def video(official, done):
    assert done.output_video.mime_type == "video/mp4"
    file = "files/" + done.output_video.uri.split("files/")[1].split(":")[0]
    assert official.files.get(name=file).state == types.FileState.ACTIVE
    return official.files.download(file=file)


async def test_text_to_video(official, server, client):
    def journey():
        made = create(official, generation_config={"seed": 7})
        assert (made.status, made.model) == ("in_progress", MODEL)
        done = ended(official, made)
        assert done.labels == {"job": "j1"}
        assert done.usage.output_tokens_by_modality[0].tokens == 5 * 5792
        return done, video(official, done)

    done, data = await asyncio.to_thread(journey)
    assert (done.status, data[4:8]) == ("completed", b"ftyp")
    totals = (await client.get(f"{server.url}/ledger")).json()["totals"]
    assert (totals["accepted"], totals["charged_micros"]) == (1, 506_800)


async def test_image_to_video(official):
    picture = {"type": "image", "data": base64.b64encode(b"\x89PNG").decode(), "mime_type": "image/png"}
    linked = {"type": "image", "uri": "https://pictures.test/a.png", "mime_type": "image/png"}
    said = {"type": "text", "text": "<FIRST_FRAME> <LAST_FRAME> a fox"}
    config = {"video_config": {"task": "image_to_video"}}

    def journey():
        done = ended(official, create(official, [picture, linked, said], generation_config=config))
        return video(official, done)

    assert (await asyncio.to_thread(journey))[4:8] == b"ftyp"


@pytest.mark.parametrize(("prompt", "form"), [("a fox [[inline]]", {}), ("a fox", {"delivery": "inline"})])
async def test_a_video_inside_the_answer(official, prompt, form):
    done = await asyncio.to_thread(lambda: ended(official, create(official, prompt, form=form)))
    assert (done.output_video.uri, base64.b64decode(done.output_video.data)[4:8]) == (None, b"ftyp")


async def test_cancel_and_delete(official):
    def journey():
        made = create(official, "a fox [[stuck]]")
        status = official.interactions.cancel(made.id).status
        official.interactions.delete(made.id)
        return status, ended(official, made).status

    assert await asyncio.to_thread(journey) == ("cancelled", "cancelled")


async def test_a_refusal_after_the_work_has_only_words(official):
    done = await asyncio.to_thread(lambda: ended(official, create(official, "a fox [[fail:moderation]]")))
    assert (done.status, done.output_video, done.output_text) == ("completed", None, "I can't make this video.")


async def test_a_failure_says_why(official):
    done = await asyncio.to_thread(lambda: ended(official, create(official, "a fox [[fail:transient]]")))
    assert (done.status, done.errors[0].code) == ("failed", "INTERNAL")


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("refuse:moderation", errors.BadRequestError, "PROHIBITED_CONTENT"),
        ("fail:invalid", errors.BadRequestError, "INVALID_ARGUMENT"),
        ("401", errors.BadRequestError, "INVALID_ARGUMENT"),
        ("402", errors.RateLimitError, "RESOURCE_EXHAUSTED"),
        ("429", errors.RateLimitError, "RESOURCE_EXHAUSTED"),
        ("500-submit", errors.InternalServerError, "INTERNAL"),
        ("503-submit", errors.InternalServerError, "UNAVAILABLE"),
    ],
)
async def test_errors(official, fault, kind, status):
    with pytest.raises(kind) as caught:
        await asyncio.to_thread(create, official, f"a fox [[{fault}]]")
    assert caught.value.body["error"]["status"] == status


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": {"duration": 5}}, "duration"),
        ({"form": {"duration": "16s"}}, "duration"),
        ({"form": {"resolution": "8k"}}, "resolution"),
        ({"form": {"aspect_ratio": "1:1"}}, "aspect_ratio"),
        ({"generation_config": {"seed": -1}}, "seed"),
        ({"generation_config": {"video_config": {"task": "dance"}}}, "task"),
        ({"given": [{"type": "image", "uri": "https://x.test/a.png"}]}, "text"),
        ({"given": [{"type": "image"}, {"type": "text", "text": "a fox"}]}, "image"),
    ],
)
async def test_what_the_real_one_refuses_is_refused(official, options, said):
    with pytest.raises(errors.BadRequestError) as caught:
        await asyncio.to_thread(lambda: create(official, **options))
    assert said in caught.value.body["error"]["message"]


async def test_an_interaction_that_nobody_knows(official):
    with pytest.raises(errors.BadRequestError) as caught:
        await asyncio.to_thread(official.interactions.get, "v1_nobody")
    assert "Invalid interaction name" in caught.value.body["error"]["message"]


async def test_a_model_that_is_no_more(official):
    with pytest.raises(errors.NotFoundError):
        await asyncio.to_thread(
            lambda: official.interactions.create(model="gemini-omni-flash-preview", background=True, input="a fox")
        )
