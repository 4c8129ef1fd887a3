"""OpenRouter's adapter: the contract, what it sends, how it reads what comes, and its signed callbacks."""

import hashlib
import hmac
import json

import pytest

from providers.base import (
    ErrorCode,
    Media,
    Operation,
    Phase,
    ProviderError,
    Rejected,
    Signed,
    SubmitContext,
    VideoRequest,
)
from providers.checks import check
from providers.openrouter import build_submit, read_callback, read_cost, read_error, read_status, read_submitted
from providers.options import NotConfigured
from providers.registry import create_provider
from providers.wire import Clients
from tests.providers.contract import ProviderContract

pytestmark = pytest.mark.anyio

BASE = "https://openrouter.test/api/v1"
OPERATION = Operation("gen-vid-1", {"model": "google/veo-3.1"})
SECRET, NOW = "s3cret", 1_800_000_000.0


class TestOpenRouter(ProviderContract):
    provider = "openrouter"


def made(**options):
    return create_provider("openrouter", Clients(None, None, None), {"api_key": "k", **options})


def body_of(request, callback_url=None, base=BASE):
    return build_submit(base, {}, request, SubmitContext("tok", callback_url)).json


TOKEN = {"session_id": "tok", "user": "tok"}
FIRST = {"type": "image_url", "image_url": {"url": "https://p.test/a.png"}, "frame_type": "first_frame"}
LAST = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,anBn"}, "frame_type": "last_frame"}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {}),
        ({"model": "a/b"}, {"model": "a/b"}),
        (
            {"duration": 8, "resolution": "4k", "aspect_ratio": "9:16", "seed": 0, "audio": False},
            {"duration": 8, "resolution": "4K", "aspect_ratio": "9:16", "seed": 0, "generate_audio": False},
        ),
        ({"resolution": "720p"}, {"resolution": "720p"}),
        (
            {"negative_prompt": "blur"},
            {"provider": {"options": {"google-vertex": {"parameters": {"negativePrompt": "blur"}}}}},
        ),
        (
            {
                "image": Media(url="https://p.test/a.png"),
                "last_image": Media(data=b"jpg", mime_type="image/jpeg"),
            },
            {"frame_images": [FIRST, LAST]},
        ),
        ({"extra": {"trace": {"x": 1}}}, {"trace": {"x": 1}}),
        (
            {
                "negative_prompt": "blur",
                "extra": {"provider": {"options": {"google-vertex": {"parameters": {"a": 1}}}}},
            },
            {"provider": {"options": {"google-vertex": {"parameters": {"negativePrompt": "blur", "a": 1}}}}},
        ),
    ],
)
def test_what_is_sent(asked, sent):
    assert body_of(VideoRequest("fox", **asked)) == {"prompt": "fox", **TOKEN, **sent}


def test_the_call_is_one_post_with_the_key():
    provider_call = build_submit(BASE, {"authorization": "Bearer k"}, VideoRequest("fox"), SubmitContext("tok"))
    assert (provider_call.method, provider_call.url) == ("POST", f"{BASE}/videos")
    assert provider_call.headers == {"authorization": "Bearer k"}


@pytest.mark.parametrize(
    ("base", "url", "sent"),
    [
        (BASE, "https://us.test/tok", "https://us.test/tok"),
        (BASE, "http://us.test/tok", None),
        (BASE, None, None),
        ("http://127.0.0.1:1/openrouter", "http://127.0.0.1:2/tok", "http://127.0.0.1:2/tok"),
    ],
)
def test_a_callback_must_be_https(base, url, sent):
    assert body_of(VideoRequest("fox"), url, base).get("callback_url") == sent


@pytest.mark.parametrize(
    "extra",
    [
        {"callback_url": "https://elsewhere.test"},
        {"previous_job_id": "gen-vid-0"},
        {"size": "3840x2160"},
        {"user": "x"},
        {"provider": {"options": {"google-vertex": {"parameters": {"sampleCount": 4}}}}},
        {"provider": {"options": {"byteplus": {"duration": 60}}}},
        {"provider": {"options": {"minimax": {"parameters": {"resolution": "2K"}}}}},
        {"provider": {"options": {"google-vertex/us": {"parameters": {"sampleCount": 4}}}}},
        {"input_references": [{"type": "video_url", "video_url": {"url": "https://x.test/30s.mp4"}}]},
        {"models": ["x/dearer"]},
        {"provider": "cheapest"},
    ],
)
def test_extra_changes_neither_price_nor_destination(extra):
    assert check(VideoRequest("fox", extra=extra), made().capabilities)


def test_extra_may_reach_a_maker():
    extra = {"provider": {"options": {"google-vertex": {"parameters": {"personGeneration": "allow_adult"}}}}}
    assert not check(VideoRequest("fox", extra=extra), made().capabilities)


async def test_a_negative_prompt_that_would_be_lost_is_refused_before_anything_is_sent():
    request = VideoRequest("fox", model="some/model", negative_prompt="blur")
    result = await made().submit(request, SubmitContext("tok"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed) == (ErrorCode.INVALID_REQUEST, False)


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "x" * 501}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match=r"names no job|id is 1 to"):
        read_submitted(body, VideoRequest("fox"))


def read(**body):
    return read_status(body, BASE, OPERATION)


@pytest.mark.parametrize(
    ("word", "phase", "unknown"),
    [
        ("pending", Phase.QUEUED, None),
        ("in_progress", Phase.RUNNING, None),
        ("completed", Phase.SUCCEEDED, None),
        ("failed", Phase.FAILED, None),
        ("cancelled", Phase.CANCELLED, None),
        ("expired", Phase.FAILED, None),
        ("polishing", Phase.RUNNING, "polishing"),
        ("p" * 300, Phase.RUNNING, "p" * 100),
    ],
)
def test_every_status(word, phase, unknown):
    status = read(status=word)
    assert (status.phase, status.unknown_status) == (phase, unknown)


@pytest.mark.parametrize("body", [{}, {"status": None}, {"status": 5}])
def test_an_answer_without_a_status_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read(**body)
    assert caught.value.code is ErrorCode.UNREADABLE


CONTENT = f"{BASE}/videos/gen-vid-1/content?index=0"


@pytest.mark.parametrize(
    ("told", "url", "authenticated", "expires_at"),
    [
        (
            {"urls": ["https://cdn.test/a?sig=1"], "expires_at": 1_800_000_500},
            "https://cdn.test/a?sig=1",
            False,
            1.8e9 + 500,
        ),
        ({"unsigned_urls": [f"{BASE}/videos/other/content"]}, f"{BASE}/videos/other/content", True, None),
        ({"unsigned_urls": ["https://elsewhere.test/a"]}, CONTENT, True, None),
        ({"unsigned_urls": ["http://openrouter.test/api/v1/videos/x/content"]}, CONTENT, True, None),
        ({"unsigned_urls": ["https://openrouter.test:444/x"]}, CONTENT, True, None),
        ({"unsigned_urls": ["/api/v1/videos/x"]}, CONTENT, True, None),
        ({"unsigned_urls": ["https://openrouter.test[/x"]}, CONTENT, True, None),
        ({"urls": ["ftp://x"], "unsigned_urls": [5], "expires_at": "soon"}, CONTENT, True, None),
        ({"urls": "https://x", "unsigned_urls": {}, "expires_at": True}, CONTENT, True, None),
        ({"urls": [], "expires_at": float("inf")}, CONTENT, True, None),
        ({}, CONTENT, True, None),
    ],
)
def test_where_the_file_is(told, url, authenticated, expires_at):
    (output,) = read(status="completed", **told).outputs
    assert (output.url, output.authenticated, output.expires_at) == (url, authenticated, expires_at)


def test_an_id_is_no_path():
    (output,) = read_status({"status": "completed"}, BASE, Operation("../keys?x=#y")).outputs
    assert output.url == f"{BASE}/videos/..%2Fkeys%3Fx%3D%23y/content?index=0"


@pytest.mark.parametrize(
    ("usage", "micros"),
    [
        ({"cost": 0.8}, 800_000),
        ({"cost": "3.2"}, 3_200_000),
        ({"cost": 0.1 + 0.2}, 300_000),
        ({"cost": 0.000001}, 1),
        ({"cost": 1e-07}, 0),
        ({"cost": 2}, 2_000_000),
        ({"cost": 0}, 0),
        ({"cost": 0.02, "is_byok": True}, None),
        ({"cost": None}, None),
        ({"cost": True}, None),
        ({"cost": -1}, None),
        ({"cost": 1e300}, None),
        ({"cost": float("nan")}, None),
        ({"cost": "free"}, None),
        ({"cost": [1]}, None),
        ({}, None),
        ("0.8", None),
        (None, None),
    ],
)
def test_cost_is_exact_or_not_believed(usage, micros):
    assert read_cost(usage) == micros


@pytest.mark.parametrize(
    ("told", "code", "billed"),
    [
        (
            {"status": "failed", "error": "OutputVideoSensitiveContentDetected.PolicyViolation"},
            ErrorCode.MODERATION,
            None,
        ),
        (
            {"status": "failed", "error": "Blocked by the content policy", "usage": {"cost": 0}},
            ErrorCode.MODERATION,
            False,
        ),
        ({"status": "failed", "error": "Upstream error", "usage": {"cost": 0.4}}, ErrorCode.PROVIDER_ERROR, True),
        ({"status": "failed", "error": {"message": "flagged"}}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": None}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "failed", "error": ["x"]}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "expired"}, ErrorCode.TIMEOUT, None),
    ],
)
def test_failures(told, code, billed):
    error = read(**told).error
    assert (error.code, error.billed, error.resubmit, error.retryable) == (code, billed, False, False)


def envelope(message="no", code=None, **metadata):
    return {"error": {"message": message, **({"code": code} if code else {}), "metadata": metadata or None}}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, envelope("duration: 7 is not supported"), ErrorCode.INVALID_REQUEST),
        (400, envelope("InputImageSensitiveContentDetected"), ErrorCode.MODERATION),
        (400, envelope("no", flagged_input="x"), ErrorCode.MODERATION),
        (400, envelope("slow down", 429), ErrorCode.RATE_LIMITED),
        (401, envelope(), ErrorCode.AUTH),
        (402, envelope(), ErrorCode.QUOTA),
        (403, envelope(reasons=["violence"]), ErrorCode.MODERATION),
        (403, envelope("This request violates the safety policy"), ErrorCode.MODERATION),
        (403, envelope("Key limit exceeded (monthly limit)."), ErrorCode.QUOTA),
        (403, envelope("This key has no permission"), ErrorCode.AUTH),
        (403, envelope(), ErrorCode.MODERATION),
        (404, envelope(), ErrorCode.NOT_FOUND),
        (408, envelope(), ErrorCode.TRANSIENT),
        (413, envelope(), ErrorCode.INVALID_REQUEST),
        (429, envelope(), ErrorCode.RATE_LIMITED),
        (499, envelope(), ErrorCode.TRANSIENT),
        (500, envelope(), ErrorCode.TRANSIENT),
        (502, None, ErrorCode.TRANSIENT),
        (503, "<html>", ErrorCode.TRANSIENT),
        (418, [], ErrorCode.INVALID_REQUEST),
        (400, {"error": "InputTextSensitiveContentDetected"}, ErrorCode.MODERATION),
        (400, {"error": {"code": True, "message": 5, "metadata": "x"}}, ErrorCode.INVALID_REQUEST),
        (400, {"error": {"code": 200, "message": None}}, ErrorCode.INVALID_REQUEST),
        (400, envelope("upstream timed out", 504), ErrorCode.TRANSIENT),
        (400, envelope("upstream timed out", 408), ErrorCode.TRANSIENT),
        (400, envelope("odd", 600), ErrorCode.INVALID_REQUEST),
        (502, envelope("bad request", 400), ErrorCode.TRANSIENT),
        (500, envelope("no such job", 404), ErrorCode.TRANSIENT),
    ],
)
def test_refused_calls(status, body, code):
    error = read_error(status, {}, body)
    assert (error.code, error.http_status) == (code, status)


# --- callbacks -------------------------------------------------------------------------------------------------------


def event(job="gen-vid-1", status="completed"):
    return json.dumps({"type": f"video.generation.{status}", "data": {"id": job, "status": status}}).encode()


def signed(body, secret=SECRET, at=NOW, name="X-OpenRouter-Signature"):
    timestamp = str(int(at))
    digest = hmac.new(secret.encode(), timestamp.encode() + b"," + body, hashlib.sha256).hexdigest()
    return {name: f"t={timestamp},v1={digest}"}


async def test_a_genuine_callback_names_its_job_and_event():
    callback = await made(webhook_secret=SECRET).read_callback(
        signed(event(), name="x-openrouter-signature"), event(), NOW
    )
    assert (callback.event_id, callback.operation_id) == ("gen-vid-1-completed", "gen-vid-1")


async def test_one_of_several_signatures_is_enough():
    headers = signed(event())["X-OpenRouter-Signature"].replace(",v1=", ",v1=00,v1=")
    assert await made(webhook_secret=SECRET).read_callback({"X-OpenRouter-Signature": headers}, event(), NOW)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (signed(event(), secret="other"), ErrorCode.AUTH),
        (signed(event(job="gen-vid-2")), ErrorCode.AUTH),
        (signed(event(), at=NOW - 301), ErrorCode.AUTH),
        (signed(event(), at=NOW + 301), ErrorCode.AUTH),
        ({"X-OpenRouter-Signature": f"t={int(NOW)}"}, ErrorCode.AUTH),
        ({"X-OpenRouter-Signature": f"t={int(NOW)},v1=é"}, ErrorCode.AUTH),
        ({"X-OpenRouter-Signature": "v1=00"}, ErrorCode.INVALID_REQUEST),
        ({"X-OpenRouter-Signature": ""}, ErrorCode.INVALID_REQUEST),
        ({}, ErrorCode.INVALID_REQUEST),
    ],
)
async def test_a_forged_or_old_callback_is_refused(headers, code):
    with pytest.raises(ProviderError) as caught:
        await made(webhook_secret=SECRET).read_callback(headers, event(), NOW)
    assert caught.value.code is code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"5",
        b"[" * 100_000,
        b'{"type": "video.generation.completed"}',
        b'{"type": "video.generation.completed", "data": []}',
        b'{"type": "video.generation.completed", "data": {"id": 5, "status": "x"}}',
        b'{"type": "video.generation.completed", "data": {"id": ["a"], "status": "x"}}',
        b'{"type": "video.generation.completed", "data": {"id": {"a": 1}, "status": "x"}}',
        b'{"type": "video.generation.completed", "data": [1]}',
        b"\xff",
        b'{"type": "video.generation.completed", "data": {"id": "", "status": "x"}}',
        b'{"type": "video.generation.completed", "data": {"id": "a", "status": 5}}',
        b'{"type": "batch.completed", "data": {"id": "a", "status": "completed"}}',
        b'{"type": 5, "data": {"id": "a", "status": "completed"}}',
    ],
)
def test_a_callback_of_another_form_is_invalid(body):
    with pytest.raises(ProviderError) as caught:
        read_callback(body)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_without_a_secret_no_callback_is_asked_for_or_taken():
    provider = made()
    assert (provider.capabilities.callbacks, provider.capabilities.recovery.callback_seconds) == (Signed.NONE, None)
    with pytest.raises(ProviderError) as caught:
        await provider.read_callback(signed(event()), event(), NOW)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_with_a_secret_callbacks_are_signed_and_clear_up_a_lost_answer():
    can = made(webhook_secret=SECRET).capabilities
    assert (can.callbacks, can.recovery.callback_seconds) == (Signed.SIGNED, 3600)


# --- configuration ---------------------------------------------------------------------------------------------------


async def test_what_is_not_offered_says_so():
    provider = made()
    assert not provider.capabilities.cancel
    for call in (provider.cancel(OPERATION), provider.lookup("tok")):
        with pytest.raises(ProviderError) as caught:
            await call
        assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"api_key": "k", "urll": "x"}, "urll"), ({"api_key": "k", "url": "openrouter.ai"}, "must be an http")],
)
def test_a_wrong_configuration_is_refused_with_a_reason(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        create_provider("openrouter", Clients(None, None, None), options)


def test_a_missing_key_is_named():
    with pytest.raises(NotConfigured) as caught:
        create_provider("openrouter", Clients(None, None, None), {"url": BASE})
    assert caught.value.missing == ("api_key",)
