"""Luma's adapter: the contract, what is sent, and every answer that may come."""

import base64

import pytest

from providers.base import ErrorCode, Media, Operation, Phase, ProviderError, Stop, SubmitContext, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check, list_price, settled
from providers.luma import RESERVED, build_submit, read_error, read_status, read_submitted
from providers.options import NotConfigured
from providers.registry import create_provider
from providers.wire import Clients
from tests.providers.contract import ProviderContract

pytestmark = pytest.mark.anyio

FIRST = Media(url="https://pictures.test/a.png")
LAST = Media(data=b"png", mime_type="image/webp")
DATA = {"data": base64.b64encode(b"png").decode(), "media_type": "image/webp"}
HEADERS = {"authorization": "Bearer luma-x"}
USUAL = {"model": "ray-3.2", "type": "video", "prompt": "fox", "user_id": "tok"}
USUAL_VIDEO = {"duration": "5s", "resolution": "720p"}


class TestLuma(ProviderContract):
    provider = "luma"

    def options(self, url):
        return {"api_key": "luma-x", "url": f"{url}/luma/v1"}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"video": USUAL_VIDEO}),
        (
            {"aspect_ratio": "21:9", "duration": 10, "resolution": "1080p"},
            {"aspect_ratio": "21:9", "video": {"duration": "10s", "resolution": "1080p"}},
        ),
        ({"image": FIRST}, {"video": USUAL_VIDEO | {"start_frame": {"url": FIRST.url}}}),
        (
            {"image": FIRST, "last_image": LAST},
            {"video": USUAL_VIDEO | {"start_frame": {"url": FIRST.url}, "end_frame": DATA}},
        ),
        ({"last_image": LAST}, {"video": USUAL_VIDEO | {"end_frame": DATA}}),
        (
            {"image": Media(data=b"png"), "duration": 10},
            {
                "video": {"duration": "10s", "resolution": "720p", "keyframe_indexes": [0]}
                | {"keyframes": [DATA | {"media_type": "image/png"}]}
            },
        ),
        (
            {"image": FIRST, "last_image": LAST, "duration": 10},
            {
                "video": {"duration": "10s", "resolution": "720p"}
                | {"keyframes": [{"url": FIRST.url}, DATA], "keyframe_indexes": [0, 240]}
            },
        ),
        ({"model": "ray-9"}, {"model": "ray-9", "video": {}}),
        (
            {"model": "ray-9", "duration": 7, "extra": {"video": {"loop": True}, "style": "manga"}},
            {"model": "ray-9", "video": {"duration": "7s", "loop": True}, "style": "manga"},
        ),
    ],
)
def test_what_is_sent(asked, sent):
    request = settled(VideoRequest("fox", **asked), load_catalogue("luma"))
    call = build_submit("https://l/v1", HEADERS, request, SubmitContext("tok", "https://us/tok"))
    assert (call.method, call.url, call.headers) == ("POST", "https://l/v1/generations", HEADERS)
    assert call.json == USUAL | sent


def test_extra_can_change_neither_what_is_made_nor_its_price():
    capabilities = create_provider("luma", Clients(None, None, None), {"api_key": "k"}).capabilities
    for place in RESERVED:
        above, _, member = place.rpartition(".")
        assert check(VideoRequest("fox", extra={above: {member: "x"}} if above else {member: "x"}), capabilities)
    assert check(VideoRequest("fox", extra={"video": "x"}), capabilities)
    assert not check(VideoRequest("fox", extra={"video": {"loop": True}}), capabilities)


def test_ten_seconds_cost_two_blocks_of_five():
    catalogue = load_catalogue("luma")
    assert list_price(VideoRequest("fox"), catalogue) == 300_000
    assert list_price(VideoRequest("fox", duration=10, resolution="1080p"), catalogue) == 2_400_000


@pytest.mark.parametrize(
    ("state", "phase"), [("queued", Phase.QUEUED), ("processing", Phase.RUNNING), ("dreaming", Phase.RUNNING)]
)
def test_where_a_generation_stands(state, phase):
    status = read_status({"state": state, "output": 5, "failure_code": 5})
    assert (status.phase, status.error, status.cost_micros) == (phase, None, None)
    assert status.unknown_status == ("dreaming" if state == "dreaming" else None)


def test_the_videos_among_the_outputs_are_taken():
    listed = [{"type": "exr", "url": "https://x/a.exr"}, {"type": "video", "url": "https://x/a.mp4"}, 5]
    (output,) = read_status({"state": "completed", "output": listed}).outputs
    assert (output.url, output.mime_type, output.authenticated) == ("https://x/a.mp4", "video/mp4", False)


@pytest.mark.parametrize(
    "body",
    [{}, {"state": 5}, {"state": "completed"}]
    + [
        {"state": "completed", "output": output}
        for output in (
            None,
            [],
            {},
            [5],
            [{}],
            [{"type": {}, "url": "https://x"}],
            [{"type": "image", "url": "https://x"}],
            [{"url": "file:///x"}],
        )
    ],
)
def test_an_answer_that_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_status(body)
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("content_moderated", ErrorCode.MODERATION),
        ("generation_failed", ErrorCode.TRANSIENT),
        ("budget_exhausted", ErrorCode.QUOTA),
        ("output_not_found", ErrorCode.NOT_FOUND),
        ("image_too_large", ErrorCode.INVALID_REQUEST),
        ("unsupported_format", ErrorCode.INVALID_REQUEST),
        ("corrupt_input", ErrorCode.INVALID_REQUEST),
        ("invalid_request", ErrorCode.INVALID_REQUEST),
        ("rate_limited", ErrorCode.RATE_LIMITED),
        ("something_new", ErrorCode.PROVIDER_ERROR),
        (None, ErrorCode.PROVIDER_ERROR),
        (["odd"], ErrorCode.PROVIDER_ERROR),
    ],
)
def test_why_a_generation_failed(code, expected):
    error = read_status({"state": "failed", "failure_code": code, "failure_reason": "no"}).error
    assert (error.code, error.billed, error.resubmit) == (expected, None, False)
    assert error.provider_code == (code if isinstance(code, str) else None)


def test_a_failure_without_a_known_code_is_read_for_moderation():
    assert read_status({"state": "failed", "failure_reason": "unsafe: moderated"}).error.code is ErrorCode.MODERATION
    assert "without a reason" in read_status({"state": "failed", "failure_reason": 5}).error.message


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"detail": "prompt: field required"}, ErrorCode.INVALID_REQUEST),
        (400, {"detail": "The prompt was rejected by content moderation"}, ErrorCode.MODERATION),
        (401, {"detail": "Invalid or missing API key"}, ErrorCode.AUTH),
        (402, {"detail": "Insufficient balance"}, ErrorCode.QUOTA),
        (403, {"detail": "suspended"}, ErrorCode.AUTH),
        (404, {"detail": "not found"}, ErrorCode.NOT_FOUND),
        (413, {"detail": "too large"}, ErrorCode.INVALID_REQUEST),
        (422, {"detail": [{"loc": ["body", "prompt"], "msg": "field required"}, 5]}, ErrorCode.INVALID_REQUEST),
        (422, {"detail": [{"msg": "violates our content policy"}]}, ErrorCode.MODERATION),
        (422, {"detail": {"odd": 1}}, ErrorCode.INVALID_REQUEST),
        (422, None, ErrorCode.INVALID_REQUEST),
        (429, {"detail": "Rate limit exceeded"}, ErrorCode.RATE_LIMITED),
        (500, [], ErrorCode.TRANSIENT),
        (502, {"detail": "Upstream service unavailable"}, ErrorCode.TRANSIENT),
        (503, "<html>", ErrorCode.TRANSIENT),
    ],
)
def test_why_a_call_was_refused(status, body, code):
    error = read_error(status, {}, body)
    assert (error.code, error.http_status) == (code, status)
    assert error.retryable is (code in {ErrorCode.RATE_LIMITED, ErrorCode.TRANSIENT})


def test_members_that_are_wrong_are_named():
    body = {"detail": [{"loc": ["body", "prompt"], "msg": "field required"}]}
    assert read_error(422, {}, body).message == "['body', 'prompt']: field required"


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "x" * 501}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match=r"names no generation|printable"):
        read_submitted(201, {}, body)


async def test_our_token_travels_as_the_user(server, client):
    stage = TestLuma().stage_at(server.url, client)
    await stage.accepted("fox", token="tok_77")
    (entry,) = (await client.get(f"{server.url}/ledger")).json()["entries"]
    assert (entry["reference"], entry["dialect"]) == ("tok_77", "luma")


async def test_an_operation_that_a_person_named_is_polled(server, client):
    stage = TestLuma().stage_at(server.url, client)
    operation = await stage.accepted("fox")
    assert (await stage.poll_until(Operation(operation.id, {"model": "ray-3.2"}))).phase is Phase.SUCCEEDED


async def test_nothing_is_listed_or_stopped_and_nobody_rings():
    provider = create_provider("luma", Clients(None, None, None), {"api_key": "k"})
    assert await provider.cancel(Operation("g")) == Stop(False)
    for asked in (provider.lookup("tok"), provider.read_callback({}, b"{}", 0.0)):
        with pytest.raises(ProviderError) as caught:
            await asked
        assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_options_are_checked():
    with pytest.raises(NotConfigured, match="api_key"):
        create_provider("luma", Clients(None, None, None), {})
    for options, complaint in (({"version": "1"}, "version"), ({"url": "luma"}, "url")):
        with pytest.raises(ValueError, match=complaint):
            create_provider("luma", Clients(None, None, None), {"api_key": "k"} | options)


PLACED = {"keyframes": [{"url": "https://x/a.png"}], "keyframe_indexes": [0]}


@pytest.mark.parametrize(
    ("change", "video", "status"),
    [
        ({"prompt": " "}, {}, 400),
        ({"prompt": "x" * 6001}, {}, 400),
        ({"model": "ray-9"}, {}, 400),
        ({"type": "image"}, {}, 400),
        ({"aspect_ratio": "3:1"}, {}, 400),
        ({"user_id": 5}, {}, 400),
        ({"video": "5s"}, {}, 400),
        ({}, {"duration": 5}, 400),
        ({}, {"duration": "7s"}, 400),
        ({}, {"resolution": "4k"}, 400),
        ({}, {"start_frame": {}}, 400),
        ({}, {"start_frame": {"url": "https://x", "data": "aaaa", "media_type": "image/png"}}, 400),
        ({}, {"start_frame": {"url": "ftp://x"}}, 400),
        ({}, {"start_frame": {"data": "aaaa"}}, 400),
        ({}, {"start_frame": {"data": "?", "media_type": "image/png"}}, 422),
        ({}, {"start_frame": {"url": "https://x/a.png"}, "duration": "10s"}, 422),
        ({}, {"loop": True, "duration": "10s"}, 422),
        ({}, PLACED | {"loop": True}, 422),
        ({}, PLACED | {"keyframe_indexes": [121]}, 422),
        ({}, PLACED | {"keyframe_indexes": [0, 1]}, 422),
        ({}, PLACED | {"keyframe_indexes": None}, 422),
        ({}, PLACED | {"keyframes": {}}, 422),
        ({}, {"hdr": True}, 403),
        ({}, {"exr_export": True}, 422),
    ],
)
async def test_the_mock_refuses_what_luma_refuses(server, client, change, video, status):
    body = USUAL | {"video": USUAL_VIDEO | video} | change
    reply = await client.post(f"{server.url}/luma/v1/generations", json=body, headers=HEADERS)
    assert reply.status_code == status
    assert isinstance(reply.json()["detail"], str)


async def test_the_mock_wants_a_key(server, client):
    assert (await client.post(f"{server.url}/luma/v1/generations", json=USUAL)).status_code == 401
    assert (await client.get(f"{server.url}/luma/v1/generations/x")).status_code == 401
