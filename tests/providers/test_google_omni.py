"""Gemini Omni: the contract, what is sent, what answers mean, and callbacks in both of Google's signatures."""

import asyncio

import pytest

from providers.base import ErrorCode, Media, Output, Phase, ProviderError, SubmitContext, VideoRequest
from providers.checks import check, settled
from providers.google_omni import GoogleOmni
from providers.google_omni_wire import build_body
from providers.google_wire import label
from providers.registry import create_provider
from providers.wire import Clients
from tests.providers.contract import ProviderContract
from tests.providers.test_wire import Script, answer

pytestmark = pytest.mark.anyio
ORIGIN = "https://generativelanguage.googleapis.com"
POLL = f"{ORIGIN}/v1/interactions/v1_a"
TOKEN = "sub_0199AB"


class TestGoogleOmni(ProviderContract):
    provider = "google_omni"


class TestGoogleOmniBeta(ProviderContract):
    provider = "google_omni"

    def options(self, url):
        return super().options(url) | {"api_version": "v1beta"}


@pytest.fixture
def omni(server, client):
    return made(server.url, client)


def made(url, client, **options):
    given = {"api_key": "k", "url": f"{url}/google_omni", **options}
    return create_provider("google_omni", Clients(client, client, client), given)


def body_of(request, callback_url=None, **options):
    return build_body(request, SubmitContext(TOKEN, callback_url), **options)


BASE = {
    "model": "gemini-omni-1.2-flash",
    "background": True,
    "input": "a fox",
    "response_format": {"type": "video", "delivery": "uri", "duration": "5s", "resolution": "720p"},
    "labels": {"dailies": "sub_0199ab"},
}
ASKED = {"model": "gemini-omni-1.2-flash", "duration": 5, "resolution": "720p"}
I2V = {"video_config": {"task": "image_to_video"}}


def step(*content):
    return [{"type": "user_input", "content": list(content)}]


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({}, {}),
        ({"seed": 7}, {"generation_config": {"seed": 7}}),
        ({"audio": True}, {}),
        ({"aspect_ratio": "9:16"}, {"response_format": BASE["response_format"] | {"aspect_ratio": "9:16"}}),
        ({"negative_prompt": "blur"}, {"input": "a fox\n\nAvoid: blur"}),
        (
            {"image": Media(url="https://p.test/a.png")},
            {
                "input": step(
                    {"type": "image", "uri": "https://p.test/a.png"}, {"type": "text", "text": "<FIRST_FRAME> a fox"}
                ),
                "generation_config": I2V,
            },
        ),
        (
            {
                "image": Media(data=b"png"),
                "last_image": Media(data=b"jpg", mime_type="image/jpeg"),
                "prompt": "<LAST_FRAME> a fox",
                "seed": 0,
            },
            {
                "input": step(
                    {"type": "image", "data": "cG5n", "mime_type": "image/png"},
                    {"type": "image", "data": "anBn", "mime_type": "image/jpeg"},
                    {"type": "text", "text": "<FIRST_FRAME> <LAST_FRAME> a fox"},
                ),
                "generation_config": I2V | {"seed": 0},
            },
        ),
        (
            {"extra": {"generation_config": {"thinking_level": "low"}, "labels": {"team": "x"}}},
            {"generation_config": {"thinking_level": "low"}, "labels": BASE["labels"] | {"team": "x"}},
        ),
    ],
)
def test_what_is_sent(asked, changed):
    request = VideoRequest(**({"prompt": "a fox"} | ASKED | asked))
    assert body_of(request) == BASE | changed


def test_a_model_that_nobody_knows_gets_only_what_was_asked():
    body = body_of(VideoRequest("a fox", model="gemini-omni-9"))
    assert body["response_format"] == {"type": "video", "delivery": "uri"}


def test_a_callback_is_asked_for_where_we_have_an_address():
    request = VideoRequest("a fox", **ASKED)
    config = body_of(request, "https://us.test/cb/x")["webhook_config"]
    assert config == {"uris": ["https://us.test/cb/x"], "user_metadata": {"dailies": TOKEN}}
    assert "webhook_config" not in body_of(request)


def test_labels_are_what_google_takes():
    assert label("Sub_ÄÖ.0" + "x" * 99) == "sub_---0" + "x" * 55


@pytest.mark.parametrize(
    "extra",
    [
        {"model": "x"},
        {"background": False},
        {"store": False},
        {"service_tier": "priority"},
        {"serviceTier": "priority"},
        {"webhook_config": {"uris": []}},
        {"webhookConfig": {}},
        {"responseFormat": {"resolution": "4k"}},
        {"response_format": {"resolution": "4k"}},
        {"response_format": {"gcs_uri": "gs://theirs"}},
        {"responseFormat": {"gcsUri": "gs://theirs"}},
        {"generationConfig": {"videoConfig": {"task": "upscale"}}},
        {"response_format": {"duration ": "15s"}},
        {"previousInteractionId": "v1_b"},
        {"environment": {"type": "remote"}},
        {"response_format": [{"type": "video"}]},
        {"generation_config": {"video_config": {"task": "upscale"}}},
        {"labels": {"dailies": "other"}},
        {"tools": [{"type": "google_search"}]},
    ],
)
def test_extra_changes_neither_price_nor_destination(extra):
    capabilities = made("http://x", None).capabilities
    assert check(VideoRequest("a fox", extra=extra), capabilities)


def test_what_is_not_ours_may_be_extra():
    extra = {
        "safety_settings": [],
        "generation_config": {"x": 1},
        "labels": {"a": "b"},
    }
    assert not check(VideoRequest("a fox", extra=extra), made("http://x", None).capabilities)


def test_1_1_has_no_seed_and_ends_at_ten_seconds():
    capabilities = made("http://x", None).capabilities
    request = VideoRequest("a fox", model="gemini-omni-1.1-flash", seed=1, duration=11)
    assert {problem.pointer for problem in check(request, capabilities)} == {"/parameters/seed", "/parameters/duration"}
    retired = check(VideoRequest("a fox", model="veo-3.1-generate-preview"), capabilities)
    assert "gemini-omni-1.1-flash" in retired[0].detail


def whole(prompt):
    return settled(VideoRequest(prompt), made("http://x", None).capabilities.catalogue)


async def test_a_video_inside_the_answer_is_fetched_from_there(omni, server, client):
    result = await omni.submit(whole("a fox [[inline]]"), SubmitContext(TOKEN))
    async with asyncio.timeout(10):
        while (status := await omni.poll(result.operation)).phase is not Phase.SUCCEEDED:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    (output,) = status.outputs
    assert (output.url.endswith("#inline=0"), output.authenticated) == (True, True)
    async with omni.download(output) as file:
        assert b"".join([chunk async for chunk in file.chunks()])[4:8] == b"ftyp"


async def test_a_video_that_is_inside_no_more_is_not_found(omni, server, client):
    result = await omni.submit(whole("a fox [[inline:1]]"), SubmitContext(TOKEN))
    async with asyncio.timeout(10):
        while (status := await omni.poll(result.operation)).phase is not Phase.SUCCEEDED:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    with pytest.raises(ProviderError) as caught:
        async with omni.download(status.outputs[0]) as file:
            _ = [chunk async for chunk in file.chunks()]
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert (await omni.poll(result.operation)).outputs[0].url.endswith(":download?alt=media")


async def test_the_key_goes_to_googles_own_address_only(client):
    async with Script(answer(200, b"video")) as other:
        omni = GoogleOmni(Clients(client, client, client), api_key="sesame", url="https://own.test")
        for url in (f"{other.url}/v.mp4", f"{other.url}/v1/interactions/v1_a#inline=0"):
            async with omni.download(Output(url, authenticated=True)) as file:
                assert b"".join([chunk async for chunk in file.chunks()]) == b"video"
    assert len(other.requests) == 2
    assert all("sesame" not in head for head, _ in other.requests)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "k", "api_version": "v2"},
        {"api_key": "k", "webhook_secret": "whsec_*"},
        {"api_key": "k", "url": "gopher://x"},
        {"api_key": "k", "speed": "1"},
        {"api_key": ""},
        {},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=r".+"):
        create_provider("google_omni", Clients(None, None, None), options)
