"""The `/v1/videos` adapter: the contract, what it sends, and how it reads what comes."""

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
from providers.checks import check, list_price
from providers.openai_videos import (
    build_submit,
    read_error,
    read_failure,
    read_status,
    read_submitted,
    size_of,
    unspoken,
)
from providers.options import NotConfigured
from providers.registry import create_provider
from providers.wire import Clients
from tests.providers.contract import ProviderContract

pytestmark = pytest.mark.anyio

BASE = "https://gateway.test/v1"
OPERATION = Operation("video_1", {"model": "sora-2"})
PICTURE = Media(data=b"jpg", mime_type="image/jpeg")
ODD = "members of extra whose names are not made of letters, digits and _"


class TestOpenAIVideos(ProviderContract):
    provider = "openai_videos"


def made(**options):
    return create_provider("openai_videos", Clients(None, None, None), {"api_key": "k", "url": BASE, **options})


def form_of(**asked):
    return dict(build_submit(BASE, {}, VideoRequest("fox", **asked)).form)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {}),
        ({"model": "any/model"}, {"model": ["any/model"]}),
        ({"duration": 8, "resolution": "720p"}, {"seconds": ["8"], "size": ["1280x720"]}),
        ({"aspect_ratio": "9:16"}, {"size": ["720x1280"]}),
        (
            {"extra": {"seed": 7, "on": True, "off": False, "none": None}},
            {"seed": ["7"], "on": ["true"], "off": ["false"]},
        ),
        ({"extra": {"x": {"y": [1, {"z": "w"}]}}}, {"x[y][]": ["1"], "x[y][][z]": ["w"]}),
        (
            {"extra": {"input_reference": {"image_url": "https://p.test"}}},
            {"input_reference[image_url]": ["https://p.test"]},
        ),
    ],
)
def test_what_is_sent(asked, sent):
    assert form_of(**asked) == {"prompt": ["fox"], **sent}


def test_a_picture_is_a_file_beside_the_form():
    call = build_submit(BASE, {"authorization": "Bearer k"}, VideoRequest("fox", image=PICTURE))
    assert (call.method, call.url, call.headers) == ("POST", f"{BASE}/videos", {"authorization": "Bearer k"})
    assert call.files == {"input_reference": ("picture.jpg", b"jpg", "image/jpeg")}
    assert (
        build_submit(BASE, {}, VideoRequest("fox", image=Media(data=b"?"))).files["input_reference"][0] == "picture.png"
    )


@pytest.mark.parametrize(
    ("resolution", "shape", "size"),
    [
        (None, None, None),
        ("720p", None, "1280x720"),
        (None, "9:16", "720x1280"),
        ("720p", "16:9", "1280x720"),
        ("1024p", "16:9", "1792x1024"),
        ("1024p", "9:16", "1024x1792"),
        ("1024p", "1:1", "1024x1024"),
        ("1080p", "16:9", "1920x1080"),
        ("480p", "16:9", "854x480"),
        ("4k", "16:9", "3840x2160"),
        ("2k", "9:16", "1440x2560"),
        ("720p", "21:9", "1680x720"),
        ("huge", "16:9", None),
        ("720p", "adaptive", None),
        ("720p", "0:9", None),
    ],
)
def test_sizes(resolution, shape, size):
    assert size_of(VideoRequest("fox", resolution=resolution, aspect_ratio=shape)) == size


@pytest.mark.parametrize(
    ("asked", "lost"),
    [
        ({"seed": 0}, "a seed"),
        ({"negative_prompt": "blur"}, "a negative prompt"),
        ({"audio": False}, "sound on or off"),
        ({"image": Media(url="https://p.test/a.png")}, "a picture by URL (give its bytes)"),
        ({"last_image": PICTURE}, "a last picture"),
        ({"image": PICTURE, "extra": {"input_reference": {"file_id": "x"}}}, "two first pictures"),
        ({"aspect_ratio": "adaptive", "resolution": "1p"}, "adaptive at 1p"),
        ({"extra": {"seconds[]": "12"}}, ODD),
        ({"extra": {"x": [{"y]": 1}]}}, ODD),
        ({"extra": {"": {"seconds": "12"}}}, ODD),
        ({"extra": {"x": {"": {"y": 1}}}}, ODD),
        ({"extra": {"seconds ": "12"}}, ODD),
        ({"extra": {"x-y": 1}}, ODD),
    ],
)
async def test_what_the_dialect_cannot_say_is_refused_before_anything_is_sent(asked, lost):
    request = VideoRequest("fox", model="any/model", **asked)
    assert list(unspoken(request, known=False)) == [lost]
    result = await made().submit(request, SubmitContext("tok"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed) == (ErrorCode.INVALID_REQUEST, False)


def test_what_it_can_say_is_not():
    request = VideoRequest("fox", model="sora-2", audio=True, image=PICTURE, extra={"x": {"y": ["z[]"]}})
    assert list(unspoken(request, known=True)) == []


@pytest.mark.parametrize("name", ["seconds", "size", "n", "resolution", "quality", "callback_url", "model"])
def test_extra_changes_neither_price_nor_destination(name):
    assert check(VideoRequest("fox", extra={name: "x"}), made().capabilities)


def test_an_unknown_model_is_priced_as_the_dearest():
    assert list_price(VideoRequest("fox", model="any/model"), made().capabilities.catalogue) == 12 * 500_000


@pytest.mark.parametrize("extra", [{"": {"seconds": "12"}}, {"": {"model": "sora-2-pro"}}, {"input_reference": "x"}])
def test_no_member_of_ours_is_said_twice(extra):
    request = VideoRequest("fox", model="sora-2", duration=4, image=PICTURE, extra=extra)
    with pytest.raises(ProviderError, match="nothing was sent") as caught:
        build_submit("http://x/v1", {}, request)
    assert (caught.value.code, caught.value.billed) == (ErrorCode.INVALID_REQUEST, False)


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "a\nb"}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match=r"names no video|id is 1 to"):
        read_submitted(body, VideoRequest("fox"))


def read(**body):
    return read_status(body, BASE, OPERATION)


@pytest.mark.parametrize(
    ("word", "phase", "unknown"),
    [
        ("queued", Phase.QUEUED, None),
        ("in_progress", Phase.RUNNING, None),
        ("completed", Phase.SUCCEEDED, None),
        ("failed", Phase.FAILED, None),
        ("cancelled", Phase.RUNNING, "cancelled"),
        ("w" * 300, Phase.RUNNING, "w" * 100),
    ],
)
def test_every_status(word, phase, unknown):
    status = read(status=word)
    assert (status.phase, status.unknown_status, status.cost_micros) == (phase, unknown, None)


@pytest.mark.parametrize("body", [{}, {"status": None}, {"status": ["completed"]}])
def test_an_answer_without_a_status_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read(**body)
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize(
    ("told", "progress"),
    [
        (0, 0.0),
        (33, 0.33),
        (100, 1.0),
        (12.5, 0.125),
        (101, None),
        (-1, None),
        (True, None),
        ("50", None),
        (None, None),
    ],
)
def test_progress_is_a_percentage(told, progress):
    assert read(status="in_progress", progress=told).progress == progress


def test_progress_that_is_no_number_at_all():
    assert read(status="in_progress", progress=float("nan")).progress is None


@pytest.mark.parametrize(("told", "expires_at"), [(1_800_000_000, 1.8e9), (None, None), ("soon", None), (1e300, None)])
def test_the_file_is_at_the_gateway_and_needs_the_key(told, expires_at):
    (output,) = read_status({"status": "completed", "expires_at": told}, BASE, Operation("a/b?c")).outputs
    assert (output.url, output.authenticated) == (f"{BASE}/videos/a%2Fb%3Fc/content", True)
    assert output.expires_at == expires_at


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ({"code": "moderation_blocked", "message": "no"}, ErrorCode.MODERATION, "moderation_blocked"),
        ({"code": "sentinel_block", "message": "no"}, ErrorCode.MODERATION, "sentinel_block"),
        ({"code": None, "type": "content_policy_violation"}, ErrorCode.MODERATION, None),
        ({"code": "x", "message": "it violates our usage policies"}, ErrorCode.MODERATION, "x"),
        ({"code": "insufficient_quota"}, ErrorCode.QUOTA, "insufficient_quota"),
        ({"code": "rate_limit_exceeded"}, ErrorCode.PROVIDER_ERROR, "rate_limit_exceeded"),
        ({"code": "server_error", "message": "oops"}, ErrorCode.PROVIDER_ERROR, "server_error"),
        ({"code": 5, "message": 5}, ErrorCode.PROVIDER_ERROR, "5"),
        ("flagged by moderation", ErrorCode.MODERATION, None),
        ([1], ErrorCode.PROVIDER_ERROR, None),
        (None, ErrorCode.PROVIDER_ERROR, None),
    ],
)
def test_failures(error, code, told):
    read = read_failure(error)
    assert (read.code, read.provider_code, read.billed, read.resubmit) == (code, told, None, False)
    assert not read.retryable
    assert read.message


def envelope(code=None, kind=None, message="no"):
    return {"error": {"code": code, "type": kind, "message": message, "param": None}}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, envelope(kind="invalid_request_error"), ErrorCode.INVALID_REQUEST),
        (400, envelope("moderation_blocked"), ErrorCode.MODERATION),
        (400, envelope("sentinel_block", "invalid_request_error"), ErrorCode.MODERATION),
        (400, envelope("content_policy_violation"), ErrorCode.MODERATION),
        (400, envelope(message="rejected by the safety policy"), ErrorCode.MODERATION),
        (400, envelope("billing_hard_limit_reached"), ErrorCode.QUOTA),
        (400, envelope("model_not_found"), ErrorCode.NOT_FOUND),
        (401, envelope("invalid_api_key"), ErrorCode.AUTH),
        (402, envelope(), ErrorCode.QUOTA),
        (403, envelope(), ErrorCode.AUTH),
        (404, envelope(), ErrorCode.NOT_FOUND),
        (422, None, ErrorCode.INVALID_REQUEST),
        (429, envelope("rate_limit_exceeded", "requests"), ErrorCode.RATE_LIMITED),
        (429, envelope(), ErrorCode.RATE_LIMITED),
        (429, envelope("insufficient_quota", "insufficient_quota"), ErrorCode.QUOTA),
        (429, envelope(None, "insufficient_quota"), ErrorCode.QUOTA),
        (500, envelope(), ErrorCode.TRANSIENT),
        (503, "<html>", ErrorCode.TRANSIENT),
        (400, {"error": "no"}, ErrorCode.INVALID_REQUEST),
        (400, {"error": {"code": ["x"], "type": {}, "message": 5}}, ErrorCode.INVALID_REQUEST),
        (400, [], ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused_calls(status, body, code):
    error = read_error(status, {}, body)
    assert (error.code, error.http_status) == (code, status)


async def test_what_is_not_offered_says_so():
    provider = made()
    can = provider.capabilities
    assert (can.cancel, can.callbacks, can.recovery.callback_seconds) == (False, Signed.NONE, None)
    for call in (provider.cancel(OPERATION), provider.lookup("tok"), provider.read_callback({}, b"{}", 0.0)):
        with pytest.raises(ProviderError) as caught:
            await call
        assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("options", "complaint"), [({"urll": "x"}, "urll"), ({"url": "gateway.test/v1"}, "must be an http")]
)
def test_a_wrong_configuration_is_refused_with_a_reason(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        made(**options)


@pytest.mark.parametrize(("options", "missing"), [({}, ("api_key", "url")), ({"api_key": "k"}, ("url",))])
def test_what_is_missing_is_named(options, missing):
    with pytest.raises(NotConfigured) as caught:
        create_provider("openai_videos", Clients(None, None, None), options)
    assert caught.value.missing == missing
