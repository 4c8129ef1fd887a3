"""Gemini Omni: the contract, what is sent, what answers mean, and callbacks in both of Google's signatures."""

import asyncio

import pytest

from providers.base import ErrorCode, Media, Output, Phase, ProviderError, SubmitContext, VideoRequest
from providers.checks import check, settled
from providers.google_omni import GoogleOmni
from providers.google_omni_wire import build_body, read_status, read_submitted
from providers.google_wire import label, read_error
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


def poll(body):
    return read_status(body, POLL, ORIGIN)


def model_output(*content):
    return {"type": "model_output", "content": list(content)}


@pytest.mark.parametrize(
    ("word", "phase", "unknown"),
    [
        ("queued", Phase.QUEUED, None),
        ("in_progress", Phase.RUNNING, None),
        ("requires_action", Phase.RUNNING, "requires_action"),
        ("requires_continuation", Phase.RUNNING, "requires_continuation"),
        ("warming" * 50, Phase.RUNNING, ("warming" * 50)[:100]),
        ("cancelled", Phase.CANCELLED, None),
    ],
)
def test_statuses(word, phase, unknown):
    status = poll({"status": word})
    assert (status.phase, status.unknown_status, status.error) == (phase, unknown, None)


FILE = f"{ORIGIN}/v1beta/files/abc:download?alt=media"


@pytest.mark.parametrize(
    ("block", "output"),
    [
        ({"uri": FILE, "mime_type": "video/mp4"}, Output(FILE, True, "video/mp4")),
        ({"uri": f"{ORIGIN}/v1beta/files/abc"}, Output(FILE, True)),
        ({"uri": f"{ORIGIN}/v1beta/files/abc:download"}, Output(FILE, True)),
        (
            {"uri": f"{ORIGIN}/v1/files/a:download?x=1", "mime_type": 5},
            Output(f"{ORIGIN}/v1/files/a:download?x=1&alt=media", True),
        ),
        ({"uri": "https://cdn.test/v.mp4", "data": "inline:0"}, Output("https://cdn.test/v.mp4", False)),
        (
            {"uri": "http://generativelanguage.googleapis.com/v1/files/a"},
            Output("http://generativelanguage.googleapis.com/v1/files/a"),
        ),
        ({"uri": f"{ORIGIN}.evil.test/v1/files/a"}, Output(f"{ORIGIN}.evil.test/v1/files/a")),
        ({"uri": "", "data": "inline:3"}, Output(f"{POLL}#inline=3", True)),
    ],
)
@pytest.mark.parametrize("word", ["completed", "incomplete"])
def test_where_the_video_is(word, block, output):
    steps = [
        {"type": "user_input", "content": [{"type": "video", "uri": "https://input.test/"}]},
        model_output({"type": "video", "uri": "https://older.test/"}),
        model_output({"type": "video", "uri": "https://first.test/"}, {"type": "video", **block}, {"type": "text"}),
        {"type": "thought"},
        5,
    ]
    status = poll({"status": word, "steps": steps})
    assert (status.phase, list(status.outputs)) == (Phase.SUCCEEDED, [output])


@pytest.mark.parametrize("uri", ["gs://b/v.mp4", "https://x/\n", "http://[", "https://x/" + "a" * 9000])
def test_an_address_that_cannot_be_used_is_unreadable(uri):
    with pytest.raises(ProviderError) as caught:
        poll({"status": "completed", "steps": [model_output({"type": "video", "uri": uri})]})
    assert caught.value.code is ErrorCode.UNREADABLE


def test_an_older_form_of_the_answer_is_read_as_the_official_client_does():
    video = {"type": "video", "uri": "https://old.test/"}
    for body in (
        {"outputs": [video]},
        {"outputs": [video], "steps": []},
        {"steps": [model_output() | {"content": video}]},
    ):
        status = poll({"status": "completed", **body})
        assert (status.phase, list(status.outputs)) == (Phase.SUCCEEDED, [Output("https://old.test/")])


def counted(modality="text", tokens=9):
    return {"output_tokens_by_modality": [5, {"modality": modality, "tokens": tokens}]}


@pytest.mark.parametrize("usage", [counted(), counted("VIDEO", 0), {"output_tokens_by_modality": []}])
def test_words_instead_of_a_video_are_a_refusal(usage):
    said = model_output({"type": "text", "text": "I can't"}, {"type": "text", "text": "do that."})
    status = poll({"status": "completed", "steps": [said], "usage": usage})
    assert (status.phase, status.error.code, status.error.message) == (
        Phase.FAILED,
        ErrorCode.MODERATION,
        "I can't do that.",
    )
    assert (status.error.retryable, status.error.resubmit, status.error.billed) == (False, False, None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": 5},
        {"status": "completed", "usage": {"output_tokens_by_modality": [{"modality": "VIDEO", "tokens": 28960}]}},
        {
            "status": "completed",
            "steps": {},
            "usage": {"output_tokens_by_modality": [{"modality": "video", "tokens": 1}]},
        },
        {"status": "completed"},
        {"status": "completed", "steps": [], "usage": counted()},
        {"status": "completed", "steps": [model_output({"type": "text", "text": "I can't"})]},
        {
            "status": "completed",
            "steps": [model_output({"type": "text", "text": "no"})],
            "usage": {"total_tokens": 57920},
        },
        {"status": "completed", "steps": [model_output({"type": "text", "text": " "})], "usage": counted()},
        {"status": "completed", "steps": [model_output({"type": "text", "text": 5})], "usage": counted()},
        {"status": "completed", "steps": [model_output({"type": "video"})], "usage": counted()},
        {
            "status": "completed",
            "steps": [model_output({"type": "text", "text": "here it is"}, {"type": "video"})],
            "usage": counted(),
        },
        {"status": "completed", "outputs": [{"type": "video", "mime_type": "video/mp4"}], "usage": counted()},
    ],
)
def test_what_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        poll(body)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.UNREADABLE, True)


@pytest.mark.parametrize(
    ("body", "code", "provider_code"),
    [
        ({"errors": [{"code": "SAFETY", "message": "no"}]}, ErrorCode.MODERATION, "SAFETY"),
        ({"errors": [{"code": "https://x.test/errors/image-safety"}]}, ErrorCode.MODERATION, "IMAGE_SAFETY"),
        (
            {"error": {"code": 3, "message": "It violates our usage policies."}},
            ErrorCode.MODERATION,
            "INVALID_ARGUMENT",
        ),
        ({"error": {"code": 13, "message": "x"}}, ErrorCode.TRANSIENT, "INTERNAL"),
        ({"error": {"code": 8, "message": "x"}}, ErrorCode.TRANSIENT, "RESOURCE_EXHAUSTED"),
        ({"error": {"status": "INVALID_ARGUMENT"}}, ErrorCode.INVALID_REQUEST, "INVALID_ARGUMENT"),
        ({"errors": []}, ErrorCode.PROVIDER_ERROR, None),
        ({"errors": "x", "error": "y"}, ErrorCode.PROVIDER_ERROR, None),
        ({"errors": [{"code": "SOMETHING_NEW", "message": 5}]}, ErrorCode.PROVIDER_ERROR, "SOMETHING_NEW"),
    ],
)
def test_failures(body, code, provider_code):
    status = poll({"status": "failed", **body})
    assert (status.phase, status.error.code, status.error.provider_code) == (Phase.FAILED, code, provider_code)
    assert (status.error.billed, status.error.resubmit) == (None, False)


def test_a_spent_budget_is_quota():
    assert poll({"status": "budget_exceeded"}).error.code is ErrorCode.QUOTA


def test_incomplete_without_a_video_is_a_failure():
    assert poll({"status": "incomplete"}).error.code is ErrorCode.PROVIDER_ERROR


def envelope(message="", status=None, details=(), code=400):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
PER_DAY = {"@type": "x/google.rpc.QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}
KEY = {"@type": "x", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, envelope("bad", "INVALID_ARGUMENT"), ErrorCode.INVALID_REQUEST),
        (400, envelope("bad", "FAILED_PRECONDITION"), ErrorCode.INVALID_REQUEST),
        (400, envelope("API key not valid.", "INVALID_ARGUMENT", [KEY]), ErrorCode.AUTH),
        (400, envelope("no", "PROHIBITED_CONTENT"), ErrorCode.MODERATION),
        (400, envelope("no", code="SAFETY"), ErrorCode.MODERATION),
        (400, envelope("no", code="IMAGE_PROHIBITED_CONTENT"), ErrorCode.MODERATION),
        (400, envelope("The prompt was blocked, see our use policy", "INVALID_ARGUMENT"), ErrorCode.MODERATION),
        (400, envelope("Invalid interaction name.", "INVALID_ARGUMENT"), ErrorCode.NOT_FOUND),
        (404, envelope("models/x is no longer available", "NOT_FOUND"), ErrorCode.NOT_FOUND),
        (404, None, ErrorCode.NOT_FOUND),
        (401, envelope("who?", "UNAUTHENTICATED"), ErrorCode.AUTH),
        (403, envelope("no role", "PERMISSION_DENIED"), ErrorCode.AUTH),
        (403, envelope("pay", "PERMISSION_DENIED", [{"reason": "BILLING_DISABLED"}]), ErrorCode.QUOTA),
        (429, envelope("slow down", "RESOURCE_EXHAUSTED"), ErrorCode.RATE_LIMITED),
        (429, envelope("check your plan and billing", "RESOURCE_EXHAUSTED", [RETRY]), ErrorCode.RATE_LIMITED),
        (429, envelope("credits are depleted, see billing", "RESOURCE_EXHAUSTED"), ErrorCode.QUOTA),
        (429, envelope("quota, limit: 0", "RESOURCE_EXHAUSTED", [RETRY]), ErrorCode.QUOTA),
        (429, envelope("quota", "RESOURCE_EXHAUSTED", [RETRY, PER_DAY]), ErrorCode.QUOTA),
        (429, "Too many", ErrorCode.RATE_LIMITED),
        (500, envelope("x", "INTERNAL"), ErrorCode.TRANSIENT),
        (503, envelope("x", "UNAVAILABLE"), ErrorCode.TRANSIENT),
        (504, envelope("x", "DEADLINE_EXCEEDED"), ErrorCode.TRANSIENT),
        (500, [envelope("x", "UNAVAILABLE")], ErrorCode.TRANSIENT),
        (400, [envelope("no", "SAFETY")], ErrorCode.MODERATION),
        (418, envelope("x", "TEAPOT"), ErrorCode.INVALID_REQUEST),
        (400, {"error": "plain"}, ErrorCode.INVALID_REQUEST),
        (502, "<html>", ErrorCode.TRANSIENT),
        (302, None, ErrorCode.UNREADABLE),
        (400, {"error": {"details": 5, "status": [], "message": {}}}, ErrorCode.INVALID_REQUEST),
        (400, [], ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused_calls(status, body, code):
    error = read_error(status, {}, body)
    assert (error.code, error.http_status) == (code, status)
    assert error.retry_after == (12.5 if "12.5" in str(body) else None)


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "x" * 501}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError):  # noqa: PT011 - of either kind
        read_submitted(200, {}, body)


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
