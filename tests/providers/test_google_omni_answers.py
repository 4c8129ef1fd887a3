"""What Gemini Omni's answers mean: to polls, to refused calls, to a cancel."""

import json

import httpx
import pytest

from providers.base import ErrorCode, Operation, Output, Phase, ProviderError
from providers.google_omni_wire import read_status, read_submitted
from providers.google_wire import read_error
from providers.registry import create_provider
from providers.wire import Clients

pytestmark = pytest.mark.anyio
ORIGIN = "https://generativelanguage.googleapis.com"
POLL = f"{ORIGIN}/v1/interactions/v1_a"


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


@pytest.mark.parametrize(
    ("status", "stopped"),
    [("cancelled", True), ("failed", True), ("completed", False), ("in_progress", False), ({}, False), (None, False)],
)
async def test_what_a_cancel_came_to(status, stopped):
    def answer(request):
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps({"status": status}).encode()))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        provider = create_provider("google_omni", Clients(client, client, client), {"api_key": "k"})
        stop = await provider.cancel(Operation("v1_a"))
    assert (stop.stopped, stop.billed) == (stopped, None)
