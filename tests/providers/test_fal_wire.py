"""fal's wire: what is sent for which endpoint, what every answer means, and what the mock takes."""

import httpx
import pytest

from providers.base import ErrorCode, Media, Operation, Phase, ProviderError, Rejected, SubmitContext, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.fal_wire import (
    RunFailed,
    address_of,
    build_submit,
    read_callback,
    read_error,
    read_result,
    read_run_error,
    read_status,
    read_submitted,
)
from providers.mock.dialects.fal_input import read_order
from providers.mock.order import Refusal
from providers.registry import create_provider
from providers.wire import Clients

BASE = "https://queue.fal.run"
VEO, SEEDANCE, H3 = "fal-ai/veo3.1/fast", "bytedance/seedance-2.5/image-to-video", "minimax/h3-max/text-to-video"
CATALOGUE = load_catalogue("fal")


def body_of(**asked):
    return build_submit(BASE, {}, VideoRequest("fox", **asked), SubmitContext("tok"), CATALOGUE).json


URL, PNG = Media(url="https://a.test/1.png"), Media(data=b"png", mime_type="image/png")


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        ({"model": VEO}, {}),
        (
            {"model": VEO, "duration": 8, "resolution": "720p", "aspect_ratio": "9:16", "seed": 7, "audio": False}
            | {"negative_prompt": "blur"},
            {"duration": "8s", "resolution": "720p", "aspect_ratio": "9:16", "seed": 7, "generate_audio": False}
            | {"negative_prompt": "blur"},
        ),
        ({"model": VEO, "extra": {"enhance_prompt": True}}, {"enhance_prompt": True}),
        (
            {"model": SEEDANCE, "duration": 12, "image": URL, "last_image": PNG},
            {"duration": "12", "image_url": "https://a.test/1.png", "end_image_url": "data:image/png;base64,cG5n"},
        ),
        ({"model": H3, "duration": 6, "audio": True}, {"duration": 6}),
        ({"model": "a/b", "duration": 5, "audio": True}, {"duration": "5", "generate_audio": True}),
        (
            {"model": "fal-ai/veo3.1/first-last-frame-to-video", "duration": 6, "image": URL, "last_image": URL},
            {"duration": "6s", "first_frame_url": URL.url, "last_frame_url": URL.url},
        ),
        ({"model": "fal-ai/kling-video/v3/pro/image-to-video", "image": URL}, {"start_image_url": URL.url}),
    ],
)
def test_the_input_is_written_as_the_endpoint_wants_it(asked, body):
    assert body_of(**asked) == {"prompt": "fox", **body}


def test_the_callback_travels_in_the_query_and_the_key_in_a_header():
    context = SubmitContext("tok", "https://us.test/callbacks/fal/x?y=1&z=2")
    request = VideoRequest("fox", model=VEO)
    call = build_submit(BASE, {"authorization": "Key a:b"}, request, context, CATALOGUE)
    sent = call.request(httpx.AsyncClient())
    expected = "https%3A%2F%2Fus.test%2Fcallbacks%2Ffal%2Fx%3Fy%3D1%26z%3D2"
    assert str(sent.url) == f"{BASE}/{VEO}?fal_webhook={expected}"
    assert (sent.headers["authorization"], sent.method) == ("Key a:b", "POST")
    assert "x-fal-no-retry" not in sent.headers


@pytest.mark.parametrize(
    "model", ["veo", "a/../b", "a/b?fal_webhook=x", "a//b", "/a/b", "a/b/", "a/b#c", "a/" + "b" * 200]
)
@pytest.mark.anyio
async def test_a_model_that_is_no_address_is_refused_before_anything_is_sent(model):
    provider = create_provider("fal", Clients(None, None, None), {"api_key": "a:b"})
    result = await provider.submit(VideoRequest("fox", model=model), SubmitContext("tok"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed) == (ErrorCode.INVALID_REQUEST, False)


@pytest.mark.parametrize(
    "name", ["duration", "num_videos", "num_frames", "sync_mode", "first_frame_url", "resolution", "multi_prompt"]
)
def test_extra_changes_neither_price_nor_destination(name):
    capabilities = create_provider("fal", Clients(None, None, None), {"api_key": "a:b"}).capabilities
    problems = check(VideoRequest("fox", extra={name: 1, "enhance_prompt": True}), capabilities)
    assert [problem.pointer for problem in problems] == [f"/extra/{name}"]


def test_addresses_of_our_own_origin_are_used_and_all_others_rebuilt():
    given = {"request_id": "r-1", "status_url": f"{BASE}/elsewhere/r-1/status", "response_url": "https://evil.test/x"}
    operation = read_submitted(given, VEO)
    assert address_of(BASE, operation, "status_url", "") == f"{BASE}/elsewhere/r-1/status"
    assert address_of(BASE, operation, "response_url", "") == f"{BASE}/fal-ai/veo3.1/requests/r-1"
    assert address_of(BASE, operation, "cancel_url", "") == f"{BASE}/fal-ai/veo3.1/requests/r-1/cancel"
    for evil in (f"{BASE}.evil.test/x", f"{BASE}@evil.test/x", "http://queue.fal.run/x", 7):
        named = Operation("r-1", {"model": "workflows/a/b/c", "status_url": evil})
        assert address_of(BASE, named, "status_url", "") == f"{BASE}/workflows/a/b/requests/r-1/status"
    assert address_of(BASE, Operation("r/../1"), "response_url", VEO) == f"{BASE}/fal-ai/veo3.1/requests/r%2F..%2F1"


@pytest.mark.parametrize("body", [None, [], {}, {"request_id": 5}, {"request_id": ""}, {"request_id": "a\nb"}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match=r"names no request|printable"):
        read_submitted(body, VEO)


@pytest.mark.parametrize("body", [{}, {"status": 5}, {"status": None}])
def test_a_status_that_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_status(body)
    assert caught.value.code is ErrorCode.UNREADABLE


def test_words_of_the_queue():
    assert read_status({"status": "IN_QUEUE", "queue_position": 3}).phase is Phase.QUEUED
    assert read_status({"status": "IN_PROGRESS", "logs": None}).phase is Phase.RUNNING
    assert read_status({"status": "COMPLETED", "error": "x"}) is None
    odd = read_status({"status": "THAWING" * 50})
    assert (odd.phase, len(odd.unknown_status)) == (Phase.RUNNING, 100)


@pytest.mark.parametrize(
    "body",
    [
        {"video": {"url": "https://cdn.test/v.mp4", "content_type": "video/mp4"}},
        {"video": "https://cdn.test/v.mp4"},
        {"videos": [{"url": "https://cdn.test/v.mp4"}, {"url": "https://cdn.test/w.mp4"}]},
    ],
)
def test_the_file_is_found_where_endpoints_put_it(body):
    status = read_result(body, {})
    assert (status.phase, status.outputs[0].url) == (Phase.SUCCEEDED, "https://cdn.test/v.mp4")
    assert (status.outputs[0].authenticated, status.cost_micros) == (False, None)


@pytest.mark.parametrize(
    "body", [{}, {"video": None}, {"video": {"url": 5}}, {"videos": []}, {"video": "data:video/mp4;x"}]
)
def test_success_without_a_file_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_result(body, {})
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize(
    ("told", "code", "phase"),
    [
        ({"error": "flagged by our content policy"}, ErrorCode.MODERATION, Phase.FAILED),
        ({"error": "gone", "error_type": "runner_disconnected"}, ErrorCode.TRANSIENT, Phase.FAILED),
        ({"error": "stopped", "error_type": "client_cancelled"}, ErrorCode.CANCELLED, Phase.CANCELLED),
        ({"error": {"odd": 1}, "error_type": 7}, ErrorCode.PROVIDER_ERROR, Phase.FAILED),
    ],
)
def test_an_error_in_the_status_counts_where_there_is_no_file(told, code, phase):
    status = read_result({}, told)
    assert (status.phase, status.error.code, status.error.billed) == (phase, code, None)
    assert not status.error.resubmit


def detail(*kinds):
    return {"detail": [{"loc": ["body"], "msg": f"about {kind}", "type": kind} for kind in kinds]}


@pytest.mark.parametrize(
    ("status", "headers", "body", "code"),
    [
        (400, {}, {"detail": "nonsense"}, ErrorCode.INVALID_REQUEST),
        (401, {}, {"detail": "no key"}, ErrorCode.AUTH),
        (402, {}, None, ErrorCode.QUOTA),
        (403, {}, {"detail": "Forbidden"}, ErrorCode.AUTH),
        (403, {}, {"detail": "User is locked. Reason: Exhausted balance."}, ErrorCode.QUOTA),
        (404, {}, {"detail": "Application not found"}, ErrorCode.NOT_FOUND),
        (422, {}, detail("missing", "value_error"), ErrorCode.INVALID_REQUEST),
        (422, {}, detail("value_error", "content_policy_violation"), ErrorCode.MODERATION),
        (422, {"X-Fal-Retryable": "true"}, detail("no_media_generated"), ErrorCode.MODERATION),
        (422, {}, {"detail": "Blocked by the content policy"}, ErrorCode.MODERATION),
        (422, {}, detail("image_too_small"), ErrorCode.INVALID_REQUEST),
        (422, {}, detail("downstream_service_error"), ErrorCode.TRANSIENT),
        (429, {}, {"detail": "slow down"}, ErrorCode.RATE_LIMITED),
        (499, {}, {"detail": "x", "error_type": "client_cancelled"}, ErrorCode.CANCELLED),
        (400, {}, {"detail": "x", "error_type": "bad_request"}, ErrorCode.INVALID_REQUEST),
        (500, {}, detail("internal_server_error"), ErrorCode.TRANSIENT),
        (502, {}, b"<html>", ErrorCode.TRANSIENT),
        (503, {"X-Fal-Error-Type": "runner_disconnected"}, None, ErrorCode.TRANSIENT),
        (504, {}, {"detail": "x", "error_type": "startup_timeout"}, ErrorCode.TRANSIENT),
        (418, {}, {"detail": [5, {"type": 7, "msg": {}}]}, ErrorCode.INVALID_REQUEST),
        (307, {}, None, ErrorCode.UNREADABLE),
    ],
)
def test_every_row_of_the_taxonomy(status, headers, body, code):
    error = read_error(status, headers, body)
    assert (error.code, error.http_status) == (code, status)
    assert code is not ErrorCode.MODERATION or not error.retryable


def test_words_and_type_of_an_error_are_kept():
    error = read_error(422, {}, detail("missing", "value_error"))
    assert (error.message, error.provider_code) == ("about missing; about value_error", "missing")
    assert read_error(503, {}, {"detail": "down"}).message == "down"


QUEUE = {"detail": "x", "error_type": "runner_disconnected"}
BROKEN = {"error": "gone", "error_type": "runner_disconnected"}
INTERNAL = {"error": "broken", "error_type": "internal_server_error"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "told", "billed", "resubmit"),
    [
        (503, {}, QUEUE, BROKEN, False, True),
        (503, {}, QUEUE, {"error": "gone"}, False, True),
        (502, {}, None, BROKEN, False, True),
        (502, {}, b"<html>", {"error": "broken"}, None, False),
        (502, {}, None, INTERNAL, None, False),
        (504, {"x-fal-error-type": "startup_timeout"}, None, {"error": "x", "error_type": 7}, False, True),
        (500, {"X-Fal-Retryable": "true"}, detail("internal_server_error"), INTERNAL, False, True),
        (500, {"X-Fal-Retryable": "false"}, detail("internal_server_error"), INTERNAL, False, False),
        (500, {}, detail("downstream_service_error"), {"error": "x"}, False, False),
        (503, {"X-Fal-Retryable": "false"}, QUEUE, BROKEN, False, False),
        (422, {"X-Fal-Retryable": "true"}, detail("no_media_generated"), {}, None, False),
        (
            422,
            {"X-Fal-Retryable": "true"},
            detail("no_media_generated"),
            {"error": "x", "error_type": "y"},
            None,
            False,
        ),
        (500, {"X-Fal-Retryable": "true"}, detail("content_policy_violation"), {"error": "x"}, None, False),
        (422, {}, detail("image_load_error"), {}, None, False),
        (422, {}, detail("downstream_service_error"), {}, None, False),
        (400, {}, detail("value_error"), {}, None, False),
        (400, {}, {"detail": "an older endpoint's words"}, {"error": "x"}, None, False),
        (499, {}, {"detail": "x", "error_type": "client_cancelled"}, {}, None, False),
        (499, {}, {"detail": "x", "error_type": "client_cancelled"}, BROKEN, None, False),
    ],
)
def test_what_a_failed_run_costs_and_whether_it_may_be_asked_again(status, headers, body, told, billed, resubmit):
    error = read_run_error(status, headers, body, told)
    assert isinstance(error, RunFailed)
    assert (error.billed, error.resubmit) == (billed, resubmit)


KINDS = ["runner_connection_error", "request_timeout", "internal_error", "runner_disconnected", "unauthorized", "odd"]


@pytest.mark.parametrize(
    "status", [401, 402, 403, 404, 405, 408, 409, 410, 425, 429, 460, 499, 500, 502, 503, 504, 599]
)
@pytest.mark.parametrize("told", [{}, {"error": None}, {"error": ""}, {"error_type": "runner_disconnected"}])
def test_no_answer_to_the_asking_ends_a_run_that_the_status_calls_completed(status, told):
    for kind in KINDS:
        for headers in ({}, {"x-fal-retryable": "true"}, {"x-fal-error-type": kind}):
            for body in (None, {"detail": "x", "error_type": kind}, detail(kind)):
                error = read_run_error(status, headers, body, told)
                assert not isinstance(error, RunFailed)
                assert (error.billed, error.resubmit) == (None, False)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"detail": "Request is still in progress"}),
        (400, {"detail": "x", "error_type": "bad_request"}),
        (422, {"detail": "Blocked by the content policy"}),
        (422, {"detail": []}),
    ],
)
def test_a_4xx_that_is_no_model_s_complaint_ends_nothing(status, body):
    assert not isinstance(read_run_error(status, {}, body, {}), RunFailed)


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_refused_asking_tells_nothing_of_a_run_that_failed(status):
    assert not isinstance(read_run_error(status, {}, QUEUE, BROKEN), RunFailed)


def test_a_failure_of_another_type_than_the_status_names_is_one_of_the_asking():
    assert not isinstance(read_run_error(503, {}, QUEUE, INTERNAL), RunFailed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"request_id": "r"}',
        b'{"request_id": 5, "status": "OK"}',
        b'{"request_id": "", "status": "OK"}',
        b'{"request_id": "' + b"r" * 101 + b'", "status": "OK"}',
    ],
)
def test_a_callback_of_another_form_is_refused(body):
    with pytest.raises(ProviderError) as caught:
        read_callback(body)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("model", "raw", "place"),
    [
        (VEO, {}, "prompt"),
        (VEO, {"prompt": " "}, "prompt"),
        (VEO, {"prompt": "\ud800"}, "prompt"),
        (VEO, {"prompt": "fox", "duration": 8}, "duration"),
        (VEO, {"prompt": "fox", "duration": "5s"}, "duration"),
        (H3, {"prompt": "fox", "duration": "6"}, "duration"),
        (VEO, {"prompt": "fox", "resolution": "8k"}, "resolution"),
        (VEO, {"prompt": "fox", "aspect_ratio": "1:1"}, "aspect_ratio"),
        (VEO, {"prompt": "fox", "seed": True}, "seed"),
        (VEO, {"prompt": "fox", "generate_audio": "yes"}, "generate_audio"),
        (SEEDANCE, {"prompt": "fox"}, "image_url"),
        (SEEDANCE, {"prompt": "fox", "image_url": "data:image/png;base64,???"}, "image_url"),
        (SEEDANCE, {"prompt": "fox", "image_url": "data:text/plain;base64,aaaa"}, "image_url"),
        (SEEDANCE, {"prompt": "fox", "image_url": "file:///etc"}, "image_url"),
    ],
)
def test_the_mock_refuses_what_the_endpoint_would(model, raw, place):
    with pytest.raises(Refusal) as caught:
        read_order(model, raw, None, "http://mock/")
    assert (caught.value.status, caught.value.place) == (422, ["body", place])
