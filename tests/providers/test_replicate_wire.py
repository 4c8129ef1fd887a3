"""Replicate's wire: what is sent for which model, what every answer means, and what the mock takes."""

import pytest

from providers.base import ErrorCode, Media, Phase, ProviderError, Rejected, SubmitContext, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.mock.dialects.replicate import prediction
from providers.mock.dialects.replicate_input import read_order
from providers.mock.order import Refusal
from providers.mock.plan import accept
from providers.registry import create_provider
from providers.replicate_wire import (
    build_submit,
    read_error,
    read_status,
    read_submitted,
    read_upload,
)
from providers.wire import Clients

BASE = "https://api.replicate.com/v1"
VERSION = "0123456789abcdef" * 4
VEO, SEEDANCE = "google/veo-3.1", "bytedance/seedance-2.0"
CATALOGUE = load_catalogue("replicate")
URL, PNG = Media(url="https://a.test/1.png"), Media(data=b"png", mime_type="image/png")
DATA = "data:image/png;base64,cG5n"


def call_of(context=SubmitContext("tok"), **asked):  # noqa: B008 - a frozen value
    return build_submit(BASE, {}, VideoRequest("fox", **asked), context, CATALOGUE)


@pytest.mark.parametrize(
    ("asked", "path", "body"),
    [
        ({"model": VEO}, f"models/{VEO}/predictions", {"input": {}}),
        (
            {"model": VEO, "duration": 8, "resolution": "1080p", "aspect_ratio": "9:16", "seed": 7, "audio": False}
            | {"negative_prompt": "blur", "image": URL, "last_image": PNG},
            f"models/{VEO}/predictions",
            {
                "input": {"duration": 8, "resolution": "1080p", "aspect_ratio": "9:16", "seed": 7}
                | {"generate_audio": False, "negative_prompt": "blur", "image": URL.url, "last_frame": DATA}
            },
        ),
        (
            {"model": SEEDANCE, "image": PNG, "last_image": URL},
            f"models/{SEEDANCE}/predictions",
            {"input": {"image": DATA, "last_frame_image": URL.url}},
        ),
        (
            {"model": f"a/b:{VERSION}", "audio": True},
            "predictions",
            {"version": VERSION, "input": {"generate_audio": True}},
        ),
        ({"model": VERSION}, "predictions", {"version": VERSION, "input": {}}),
        (
            {"model": VEO, "extra": {"input": {"reference_images": ["x"]}, "y": 1}},
            f"models/{VEO}/predictions",
            {"input": {"reference_images": ["x"]}, "y": 1},
        ),
    ],
)
def test_the_body_is_what_replicate_takes(asked, path, body):
    call = call_of(**asked)
    body["input"]["prompt"] = "fox"
    assert (call.method, call.url, call.json) == ("POST", f"{BASE}/{path}", body)


def test_the_callback_is_asked_for_at_the_end_only():
    body = call_of(SubmitContext("tok", "https://us.test/callbacks/replicate/x")).json
    assert body["webhook"] == "https://us.test/callbacks/replicate/x"
    assert body["webhook_events_filter"] == ["completed"]
    assert "prefer" not in {name.lower() for name in call_of().headers}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "model", ["veo", "a/b/c", "a/../b", "a/b:v1", "a/b?x", f"{VERSION}0", "a/b:" + "G" * 64, "a" * 400]
)
async def test_what_is_no_model_is_refused_before_anything_is_sent(model):
    provider = create_provider("replicate", Clients(None, None, None), {"api_key": "k"})
    result = await provider.submit(VideoRequest("fox", model=model, image=PNG), SubmitContext("tok"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed) == (ErrorCode.INVALID_REQUEST, False)


@pytest.mark.parametrize(
    ("extra", "pointer"),
    [
        ({"input": {"duration": 60}}, "/extra/input/duration"),
        ({"input": {"num_outputs": 4}}, "/extra/input/num_outputs"),
        ({"input": {"fps": 60}}, "/extra/input/fps"),
        ({"input": {"video": "https://x.test/30s.mp4"}}, "/extra/input/video"),
        ({"input": {"last_frame_image": "x"}}, "/extra/input/last_frame_image"),
        ({"input": 5}, "/extra/input"),
        ({"webhook": "https://evil.test"}, "/extra/webhook"),
        ({"version": VERSION}, "/extra/version"),
    ],
)
def test_extra_changes_neither_price_nor_destination(extra, pointer):
    capabilities = create_provider("replicate", Clients(None, None, None), {"api_key": "k"}).capabilities
    assert [problem.pointer for problem in check(VideoRequest("fox", extra=extra), capabilities)] == [pointer]


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "a\nb"}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match=r"names no prediction|printable"):
        read_submitted(body, VEO)


@pytest.mark.parametrize("body", [{}, {"urls": 5}, {"urls": {"get": 5}}, {"urls": {"get": "file:///x"}}])
def test_an_upload_without_an_address_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_upload(body)
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize(
    ("body", "phase"),
    [
        ({"status": "starting", "logs": None}, Phase.QUEUED),
        ({"status": "processing", "logs": ""}, Phase.RUNNING),
        ({"status": "succeeded", "output": "https://r.test/v.mp4"}, Phase.SUCCEEDED),
        ({"status": "failed", "error": "x"}, Phase.FAILED),
        ({"status": "canceled"}, Phase.CANCELLED),
        ({"status": "aborted"}, Phase.FAILED),
        ({"status": "thawing" * 50}, Phase.RUNNING),
    ],
)
def test_words_of_a_prediction(body, phase):
    status = read_status(body)
    assert status.phase is phase
    assert status.unknown_status == (None if len(body["status"]) < 20 else body["status"][:100])
    assert status.cost_micros is None


@pytest.mark.parametrize(
    ("logs", "progress"),
    [
        ("  4%|4| 1/25\n 52%|52| 13/25 [00:01]", 0.52),
        ("100%|##| 25/25", 1.0),
        ("999% sure", 1.0),
        ("12.5% done", 0.12),
        ("no number", None),
        ("50%" + " " * 5000, None),
        (["50%"], None),
        (None, None),
    ],
)
def test_the_last_percentage_of_the_logs_is_the_progress(logs, progress):
    assert read_status({"status": "processing", "logs": logs}).progress == progress


@pytest.mark.parametrize(
    "output", ["https://r.test/v.mp4", ["https://r.test/v.mp4"], {"video": "https://r.test/v.mp4"}]
)
def test_the_file_is_found_where_models_put_it(output):
    body = {"status": "succeeded", "output": output, "completed_at": "2026-11-24T00:00:00.123456Z"}
    (found,) = read_status(body).outputs
    assert (found.url, found.authenticated) == ("https://r.test/v.mp4", False)
    assert found.expires_at == pytest.approx(1_795_482_000.123)


@pytest.mark.parametrize("completed_at", [None, 5, "soon", "9999-99-99", "0001-01-01T00:00:00+23:59"])
def test_an_end_that_is_no_time_sets_no_limit(completed_at):
    body = {"status": "succeeded", "output": "https://r.test/v.mp4", "completed_at": completed_at}
    assert read_status(body).outputs[0].expires_at is None


@pytest.mark.parametrize("output", [None, 5, [], {}, [None], "data:video/mp4;base64,AAAA", {"video": 5}])
def test_success_without_a_file_is_unreadable(output):
    with pytest.raises(ProviderError) as caught:
        read_status({"status": "succeeded", "output": output})
    assert caught.value.code is ErrorCode.UNREADABLE


def test_files_that_are_gone_are_not_found():
    with pytest.raises(ProviderError) as caught:
        read_status({"status": "succeeded", "output": None, "data_removed": True})
    assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("body", [{}, {"status": 5}, {"status": None}])
def test_a_status_that_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_status(body)
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize(
    ("body", "code", "billed"),
    [
        ({"status": "aborted"}, ErrorCode.TIMEOUT, False),
        ({"status": "canceled", "started_at": "2026-11-24T00:00:00Z"}, ErrorCode.CANCELLED, True),
        ({"status": "canceled", "started_at": None}, ErrorCode.CANCELLED, False),
        ({"status": "failed", "error": "The input was flagged as sensitive. (E005)"}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": "NSFW content detected"}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": "violates our usage policies"}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": "Prediction interrupted; please retry (code: PA)"}, ErrorCode.TRANSIENT, None),
        ({"status": "failed", "error": "Service is temporarily unavailable (E003)"}, ErrorCode.TRANSIENT, None),
        ({"status": "failed", "error": "CUDA out of memory"}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "failed", "error": "E6716: policy server unavailable, please retry"}, ErrorCode.TRANSIENT, None),
        ({"status": "failed", "error": "unsupported policy header"}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "failed", "error": "403 from https://a.test/nsfw/safety"}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "failed", "error": "the name is case-sensitive"}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "failed", "error": "Flagged (E005). Please retry with another prompt"}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": "The safety checker refused it"}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": "The prompt violates the policy"}, ErrorCode.MODERATION, None),
        ({"status": "failed", "error": None}, ErrorCode.PROVIDER_ERROR, None),
        ({"status": "failed", "error": {"odd": 1}}, ErrorCode.PROVIDER_ERROR, None),
    ],
)
def test_why_a_prediction_ended(body, code, billed):
    error = read_status(body).error
    assert (error.code, error.billed, error.resubmit) == (code, billed, False)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"detail": "nonsense"}, ErrorCode.INVALID_REQUEST),
        (401, {"title": "Unauthenticated", "detail": "no token"}, ErrorCode.AUTH),
        (402, {"title": "Insufficient credit"}, ErrorCode.QUOTA),
        (403, None, ErrorCode.AUTH),
        (404, {"detail": "not found"}, ErrorCode.NOT_FOUND),
        (422, {"title": "Input validation failed", "detail": "- input: prompt is required"}, ErrorCode.INVALID_REQUEST),
        (422, {"detail": "- input.prompt: flagged (E005)"}, ErrorCode.MODERATION),
        (422, {"detail": "refused by our content policy"}, ErrorCode.MODERATION),
        (429, {"detail": "throttled"}, ErrorCode.RATE_LIMITED),
        (500, {"detail": "our content policy server is down"}, ErrorCode.TRANSIENT),
        (503, b"<html>", ErrorCode.TRANSIENT),
        (418, [1], ErrorCode.INVALID_REQUEST),
        (422, {"detail": [{"msg": "x"}], "title": 5}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_every_row_of_the_taxonomy(status, body, code):
    error = read_error(status, {}, body)
    assert (error.code, error.http_status) == (code, status)


@pytest.mark.parametrize(("told", "wait"), [(5, 5.0), (0.5, 0.5), (-1, None), (10**9, None), ("5", None), (None, None)])
def test_the_wait_is_read_from_the_body_too(told, wait):
    assert read_error(429, {}, {"detail": "throttled", "retry_after": told}).retry_after == wait


@pytest.mark.parametrize(
    ("model", "raw", "words"),
    [
        (VEO, {}, "input is required"),
        (VEO, {"input": []}, "input is required"),
        (VEO, {"input": {}}, "input.prompt"),
        (VEO, {"input": {"prompt": "\ud800"}}, "input.prompt"),
        (VEO, {"input": {"prompt": "fox", "duration": "8s"}}, "input.duration"),
        (VEO, {"input": {"prompt": "fox", "duration": 5}}, "input.duration"),
        (VEO, {"input": {"prompt": "fox", "seed": True}}, "input.seed"),
        (VEO, {"input": {"prompt": "fox", "resolution": "8k"}}, "input.resolution"),
        (VEO, {"input": {"prompt": "fox", "image": "nothing"}}, "input.image"),
        (VEO, {"input": {"prompt": "fox", "image": "data:image/png;base64,???"}}, "input.image"),
        (VEO, {"input": {"prompt": "fox"}, "webhook": "us.test"}, "webhook"),
        (VEO, {"input": {"prompt": "fox"}, "webhook_events_filter": ["done"]}, "webhook_events_filter"),
        (None, {"input": {"prompt": "fox"}}, "version"),
        (None, {"input": {"prompt": "fox"}, "version": "latest"}, "version"),
    ],
)
def test_the_mock_refuses_what_replicate_would(model, raw, words):
    with pytest.raises(Refusal) as caught:
        read_order(model, raw, "http://mock/")
    assert caught.value.status == 422
    assert words in caught.value.message


def test_the_mock_s_files_are_gone_after_an_hour():
    order = read_order(VEO, {"input": {"prompt": "fox"}}, "http://mock/")
    work = accept(order, work_id="p1", key=None, seed=1, now=0.0, seconds=10.0, ending="succeeded")
    fresh = prediction(work, "succeeded", 3600.0, lambda: "https://r.test/v.mp4")
    gone = prediction(work, "succeeded", 3611.0, lambda: "https://r.test/v.mp4")
    assert (fresh["output"], fresh["data_removed"]) == ("https://r.test/v.mp4", False)
    assert (gone["output"], gone["input"], gone["data_removed"]) == (None, {}, True)
    with pytest.raises(ProviderError, match="an hour after"):
        read_status(gone)


def test_the_mock_rings_only_whom_the_end_interests():
    asked = {"input": {"prompt": "fox"}, "webhook": "https://us.test/x", "webhook_events_filter": ["start"]}
    assert read_order(VEO, asked, "http://mock/").callback_url is None
    assert read_order(VEO, asked | {"webhook_events_filter": None}, "http://mock/").callback_url == "https://us.test/x"
