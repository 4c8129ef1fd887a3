"""Runway's adapter: the contract, what is sent, what is not, and every answer that may come."""

import base64

import pytest

from providers.base import (
    Accepted,
    ErrorCode,
    Media,
    Operation,
    Phase,
    ProviderError,
    Rejected,
    Stop,
    SubmitContext,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.checks import check, list_price, settled
from providers.options import NotConfigured
from providers.registry import create_provider
from providers.runway import (
    MAX_DATA_URI,
    RESERVED,
    build_submit,
    read_error,
    read_status,
    read_submitted,
)
from providers.wire import Clients
from tests.providers.contract import ProviderContract
from tests.providers.test_wire import Script, answer

pytestmark = pytest.mark.anyio

URL = Media(url="https://pictures.test/a.png")
PNG = Media(data=b"png", mime_type="image/png")
DATA = "data:image/png;base64," + base64.b64encode(b"png").decode()
HEADERS = {"authorization": "Bearer key_x", "x-runway-version": "2024-11-06"}


class TestRunway(ProviderContract):
    provider = "runway"


def body(prompt="fox", **asked):
    request = settled(VideoRequest(prompt, **asked), load_catalogue("runway"))
    return build_submit("https://r", HEADERS, request).json


def refused(**asked):
    request = settled(VideoRequest(**({"prompt": "fox"} | asked)), load_catalogue("runway"))
    with pytest.raises(ProviderError) as caught:
        build_submit("https://r", HEADERS, request)
    assert (caught.value.code, caught.value.billed) == (ErrorCode.INVALID_REQUEST, False)
    return caught.value.message


@pytest.mark.parametrize(
    ("asked", "path", "sent"),
    [
        ({}, "text", {"model": "gen4.5", "promptText": "fox", "ratio": "1280:720", "duration": 5}),
        (
            {"model": "gen4.5", "duration": 4, "resolution": "720p", "aspect_ratio": "9:16", "seed": 7, "audio": False},
            "text",
            {"model": "gen4.5", "promptText": "fox", "ratio": "720:1280", "duration": 4, "seed": 7},
        ),
        (
            {"model": "gen4.5", "aspect_ratio": "21:9", "image": URL},
            "image",
            {"model": "gen4.5", "promptText": "fox", "ratio": "1584:672", "promptImage": URL.url, "duration": 5},
        ),
        (
            {"model": "veo3.1", "resolution": "1080p", "audio": True, "negative_prompt": "blur", "image": PNG}
            | {"last_image": URL},
            "image",
            {"model": "veo3.1", "promptText": "fox", "ratio": "1920:1080", "audio": True, "negativePrompt": "blur"}
            | {
                "duration": 8,
                "promptImage": [{"uri": DATA, "position": "first"}, {"uri": URL.url, "position": "last"}],
            },
        ),
        (
            {"model": "seedance2_fast", "resolution": "480p", "aspect_ratio": "1:1"},
            "text",
            {"model": "seedance2_fast", "promptText": "fox", "ratio": "640:640", "duration": 5},
        ),
        (
            {"model": "hailuo3", "resolution": "2k", "audio": True},
            "text",
            {"model": "hailuo3", "promptText": "fox", "ratio": "16:9", "resolution": "2k", "duration": 6},
        ),
        (
            {"model": "hailuo3", "image": URL},
            "image",
            {"model": "hailuo3", "promptText": "fox", "promptImage": URL.url, "resolution": "768p", "duration": 6},
        ),
        ({"model": "gen9"}, "text", {"model": "gen9", "promptText": "fox"}),
        (
            {"model": "gen9", "aspect_ratio": "1:1", "audio": True, "extra": {"cfgScale": 0.5}},
            "text",
            {"model": "gen9", "promptText": "fox", "ratio": "960:960", "audio": True, "cfgScale": 0.5},
        ),
    ],
)
def test_what_is_sent(asked, path, sent):
    call = build_submit("https://r", HEADERS, settled(VideoRequest("fox", **asked), load_catalogue("runway")))
    assert (call.method, call.url, call.headers) == ("POST", f"https://r/v1/{path}_to_video", HEADERS)
    assert call.json == sent


def test_a_prompt_is_counted_in_utf16_units():
    assert body("🦊" * 500)
    assert "UTF-16" in refused(prompt="🦊" * 501)
    assert body("x" * 3500, model="seedance2")
    assert body("🦊" * 5000, model="gen9")
    assert "UTF-16" in refused(prompt="\ud83e" * 1001)


def test_shapes_that_a_model_does_not_make_are_refused_with_those_that_it_makes():
    assert "16:9 in 720p" in refused(model="gen4.5", aspect_ratio="1:1")
    assert "16:9 in 1080p" in refused(model="veo3.1", aspect_ratio="16:9", resolution="4k")
    assert "from a picture" in refused(model="gen4.5", aspect_ratio="2:1", image=URL)


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.test/a.png",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://[broken/a.png",
        "https:///a.png",
        "ftp://pictures.test/a.png",
        "https://pictures.test/" + "a" * 2048,
        None,
    ],
)
def test_pictures_at_addresses_that_runway_does_not_fetch_are_refused(url):
    refused(image=Media(url=url))
    refused(image=URL, last_image=Media(url=url), model="veo3.1")


def test_pictures_as_bytes_must_be_small_and_of_a_known_kind():
    largest = (MAX_DATA_URI - len("data:image/png;base64,")) // 4 * 3 - 3
    assert len(body(image=Media(data=b"x" * largest, mime_type="image/png"))["promptImage"]) < MAX_DATA_URI
    assert "5 MB" in refused(image=Media(data=b"x" * (largest + 6), mime_type="image/png"))
    assert "image/webp" in refused(image=Media(data=b"GIF8", mime_type="image/gif"))
    assert "image/webp" in refused(image=Media(data=b"?"))
    assert "first" in refused(last_image=URL)


async def test_what_is_refused_here_is_rejected_and_nothing_is_sent():
    provider = create_provider("runway", Clients(None, None, None), {"api_key": "k"})
    result = await provider.submit(VideoRequest("fox", image=Media(url="http://x/a.png")), SubmitContext("tok"))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.retryable) == (ErrorCode.INVALID_REQUEST, False)


def test_extra_can_change_neither_what_is_made_nor_its_price():
    capabilities = create_provider("runway", Clients(None, None, None), {"api_key": "k"}).capabilities
    for member in RESERVED:
        assert check(VideoRequest("fox", extra={member: "x"}), capabilities)
    assert not check(VideoRequest("fox", extra={"contentModeration": {"publicFigureThreshold": "low"}}), capabilities)


def test_every_price_is_a_whole_number_of_credits():
    catalogue = load_catalogue("runway")
    assert all(price % 10_000 == 0 for model in catalogue.models.values() for price in model.prices.values())
    assert list_price(VideoRequest("fox"), catalogue) == 5 * 120_000


@pytest.mark.parametrize(
    ("body", "phase"),
    [
        ({"status": "PENDING"}, Phase.QUEUED),
        ({"status": "THROTTLED", "progress": True}, Phase.QUEUED),
        ({"status": "RUNNING", "progress": "half"}, Phase.RUNNING),
        ({"status": "RUNNING", "progress": 7}, Phase.RUNNING),
        ({"status": "CANCELLED", "cost": {"credits": float("nan")}}, Phase.CANCELLED),
        ({"status": "CANCELED", "cost": 5}, Phase.CANCELLED),
    ],
)
def test_where_a_task_stands(body, phase):
    status = read_status(body)
    assert (status.phase, status.progress, status.cost_micros) == (phase, None, None)
    assert status.unknown_status is None


def test_progress_and_cost_are_read():
    assert read_status({"status": "RUNNING", "progress": 0.25}).progress == 0.25
    done = read_status({"status": "SUCCEEDED", "output": ["https://x/a.mp4"], "cost": {"credits": 60}})
    assert (done.cost_micros, done.outputs[0].url) == (600_000, "https://x/a.mp4")


@pytest.mark.parametrize(
    "body",
    [{}, {"status": 5}, {"status": "SUCCEEDED"}]
    + [{"status": "SUCCEEDED", "output": output} for output in ([], {}, "https://x", [5], [None], ["file:///x"])],
)
def test_an_answer_that_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        read_status(body)
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize(
    ("code", "spent", "expected"),
    [
        ("SAFETY.INPUT.TEXT", 60, (ErrorCode.MODERATION, True, False)),
        ("SAFETY.INPUT.IMAGE", None, (ErrorCode.MODERATION, True, False)),
        ("SAFETY.OUTPUT.VIDEO", None, (ErrorCode.MODERATION, None, False)),
        ("SAFETY.OUTPUT.VIDEO", 0, (ErrorCode.MODERATION, False, False)),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", None, (ErrorCode.MODERATION, None, False)),
        ("INPUT_PREPROCESSING.INTERNAL", 0, (ErrorCode.TRANSIENT, False, False)),
        ("INPUT_PREPROCESSING.X", None, (ErrorCode.INVALID_REQUEST, None, False)),
        ("ASSET.INVALID", 0, (ErrorCode.INVALID_REQUEST, False, False)),
        ("INTERNAL", 0, (ErrorCode.TRANSIENT, False, True)),
        ("INTERNAL.BAD_OUTPUT.CODE01", 0, (ErrorCode.TRANSIENT, False, True)),
        ("INTERNAL", 60, (ErrorCode.TRANSIENT, True, False)),
        ("INTERNAL", None, (ErrorCode.TRANSIENT, None, False)),
        ("SOMETHING.NEW", 0, (ErrorCode.PROVIDER_ERROR, False, False)),
        (None, None, (ErrorCode.PROVIDER_ERROR, None, False)),
        (17, None, (ErrorCode.PROVIDER_ERROR, None, False)),
    ],
)
def test_why_a_task_failed(code, spent, expected):
    body = {"status": "FAILED", "failure": "no", "failureCode": code}
    status = read_status(body | ({} if spent is None else {"cost": {"credits": spent}}))
    assert (status.error.code, status.error.billed, status.error.resubmit) == expected
    assert status.error.provider_code == (code if isinstance(code, str) else None)


def test_a_failure_without_a_code_is_read_for_moderation():
    assert read_status({"status": "FAILED", "failure": "content moderation"}).error.code is ErrorCode.MODERATION
    assert "without a reason" in read_status({"status": "FAILED", "failure": 5}).error.message


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "promptText: Too big"}, ErrorCode.INVALID_REQUEST),
        (400, {"error": "You do not have enough credits to run this task."}, ErrorCode.QUOTA),
        (400, {"error": "Rejected by our content policy"}, ErrorCode.MODERATION),
        (
            400,
            {"error": "Invalid", "issues": [{"path": ["promptText"], "message": "moderation"}]},
            ErrorCode.MODERATION,
        ),
        (400, {"error": ["odd"], "issues": "odd"}, ErrorCode.INVALID_REQUEST),
        (400, None, ErrorCode.INVALID_REQUEST),
        (401, {"error": "bad key"}, ErrorCode.AUTH),
        (404, {"error": "no such task"}, ErrorCode.NOT_FOUND),
        (405, {}, ErrorCode.INVALID_REQUEST),
        (429, {"error": "Too many requests"}, ErrorCode.RATE_LIMITED),
        (429, {"error": "You have reached your daily task limit"}, ErrorCode.QUOTA),
        (500, [], ErrorCode.TRANSIENT),
        (502, "<html>", ErrorCode.TRANSIENT),
        (503, {"error": {"nested": {}}}, ErrorCode.TRANSIENT),
        (504, None, ErrorCode.TRANSIENT),
    ],
)
def test_why_a_call_was_refused(status, body, code):
    error = read_error(status, {}, body)
    assert (error.code, error.http_status) == (code, status)
    assert error.retryable is (code in {ErrorCode.RATE_LIMITED, ErrorCode.TRANSIENT})


def test_members_that_are_wrong_are_named():
    issues = [{"path": ["ratio"], "message": "Required"}, "odd"]
    assert "['ratio']: Required" in read_error(400, {}, {"error": "Invalid", "issues": issues}).message


@pytest.mark.parametrize("body", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "x" * 501}, {"id": "a\nb"}])
def test_an_answer_without_an_id_is_no_operation(body):
    with pytest.raises(ValueError, match=r"names no task|printable"):
        read_submitted(200, {}, body)


class TestCancelling:
    @pytest.fixture
    def stage(self, server, client):
        return TestRunway().stage_at(server.url, client)

    async def test_what_waits_is_refunded(self, stage):
        operation = await stage.accepted("fox [[slow:3600]]")
        assert await stage.provider.cancel(operation) == Stop(True, False)
        assert (await stage.charges())["net_micros"] == 0

    async def test_what_runs_is_not(self, stage):
        operation = await stage.accepted("fox [[stuck]]")
        assert await stage.provider.cancel(operation) == Stop(True, True)
        assert await stage.provider.cancel(operation) == Stop(True, True)

    async def test_what_has_ended_is_left_alone(self, stage):
        operation = await stage.accepted("fox")
        await stage.poll_until(operation)
        assert await stage.provider.cancel(operation) == Stop(False, True)
        assert (await stage.download(operation))[1][4:8] == b"ftyp"

    async def test_a_deleted_task_is_not_found(self, stage):
        operation = await stage.accepted("fox")
        await stage.poll_until(operation)
        url = f"{stage.mock_url}/runway/v1/tasks/{operation.id}"
        assert (await stage.client.delete(url, headers=HEADERS)).status_code == 204
        with pytest.raises(ProviderError) as caught:
            await stage.provider.cancel(operation)
        assert caught.value.code is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            (answer(404, {"error": "no such task"}), Stop(True, None)),
            (answer(200, {"status": "RUNNING"}), Stop(True, None)),
            (answer(200, {"status": "CANCELLED", "cost": {"credits": 0}}), Stop(True, False)),
        ],
    )
    @pytest.mark.parametrize("deleted", [204, 404])
    async def test_the_bill_is_what_the_task_says_afterwards(self, client, deleted, after, expected):
        async with Script(answer(200, {"status": "RUNNING"}), answer(deleted), after) as script:
            options = {"api_key": "k", "url": script.url}
            provider = create_provider("runway", Clients(client, client, client), options)
            assert await provider.cancel(Operation("t")) == expected
            assert [head.split()[0] for head, _ in script.requests] == ["GET", "DELETE", "GET"]

    async def test_a_cancel_that_is_refused_is_told(self, client):
        async with Script(answer(200, {"status": "RUNNING"}), answer(401, {"error": "bad key"})) as script:
            options = {"api_key": "k", "url": script.url}
            provider = create_provider("runway", Clients(client, client, client), options)
            with pytest.raises(ProviderError) as caught:
                await provider.cancel(Operation("t"))
        assert caught.value.code is ErrorCode.AUTH


async def test_charges_are_those_of_the_kind_of_failure(server, client):
    stage = TestRunway().stage_at(server.url, client)
    refused = await stage.poll_until(await stage.accepted("fox [[fail:moderation]]"))
    assert refused.error.billed is True
    assert refused.cost_micros == (await stage.charges())["net_micros"] == 600_000
    broken = await stage.poll_until(await stage.accepted("fox [[fail:transient]]"))
    assert (broken.error.resubmit, broken.cost_micros) == (True, 0)
    final = await stage.poll_until(await stage.accepted("fox [[fail:final]]"))
    assert (final.error.code, final.error.provider_code) == (ErrorCode.INVALID_REQUEST, "ASSET.INVALID")


async def test_an_operation_that_a_person_named_is_polled(server, client):
    stage = TestRunway().stage_at(server.url, client)
    operation = await stage.accepted("fox")
    status = await stage.poll_until(Operation(operation.id, {"model": "gen4.5"}))
    assert status.phase is Phase.SUCCEEDED


async def test_nothing_is_listed_and_nobody_rings(server, client):
    provider = TestRunway().stage_at(server.url, client).provider
    for asked in (provider.lookup("tok"), provider.read_callback({}, b"{}", 0.0)):
        with pytest.raises(ProviderError) as caught:
            await asked
        assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_options_are_checked():
    with pytest.raises(NotConfigured, match="api_key"):
        create_provider("runway", Clients(None, None, None), {"api_key": ""})
    with pytest.raises(ValueError, match="version"):
        create_provider("runway", Clients(None, None, None), {"api_key": "k", "version": "1"})
    with pytest.raises(ValueError, match="url"):
        create_provider("runway", Clients(None, None, None), {"api_key": "k", "url": "runway"})


@pytest.mark.parametrize(
    ("path", "change", "complaint"),
    [
        ("text", {"model": "gen9"}, "model"),
        ("text", {"promptText": ""}, "promptText"),
        ("text", {"promptText": 5}, "promptText"),
        ("text", {"promptText": "x" * 1001}, "promptText"),
        ("text", {"ratio": "960:960"}, "ratio"),
        ("text", {"ratio": None}, "ratio"),
        ("text", {"duration": None}, "duration"),
        ("text", {"duration": 11}, "duration"),
        ("text", {"duration": "5"}, "duration"),
        ("text", {"seed": -1}, "seed"),
        ("text", {"audio": True}, "audio"),
        ("text", {"audio": False}, "audio"),
        ("image", {}, "promptImage"),
        ("image", {"promptImage": "http://x/a.png"}, "promptImage"),
        ("image", {"promptImage": [{"uri": "https://x/a.png", "position": "last"}]}, "promptImage"),
        ("image", {"promptImage": [{"uri": 5, "position": "first"}]}, "promptImage"),
        ("image", {"promptImage": [5]}, "promptImage"),
    ],
)
async def test_the_mock_refuses_what_runway_refuses(server, client, path, change, complaint):
    body = {"model": "gen4.5", "promptText": "fox", "ratio": "1280:720", "duration": 5} | change
    reply = await client.post(f"{server.url}/runway/v1/{path}_to_video", json=body, headers=HEADERS)
    assert reply.status_code == 400
    assert complaint in reply.json()["error"]


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"authorization": "Bearer k"}, 400)])
async def test_the_mock_wants_a_key_and_a_version(server, client, headers, status):
    reply = await client.post(f"{server.url}/runway/v1/text_to_video", json={}, headers=headers)
    assert reply.status_code == status


async def test_a_request_is_accepted_without_extras_of_ours(server, client):
    result = await TestRunway().stage_at(server.url, client).submit("fox", model="gen4.5", duration=2)
    assert isinstance(result, Accepted)
