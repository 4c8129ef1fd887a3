"""Veo on Google Cloud: the contract with results in Cloud Storage and inside answers, what is sent, what is meant."""

import asyncio

import pytest

from providers.base import (
    ErrorCode,
    Media,
    Operation,
    Output,
    Phase,
    ProviderError,
    Rejected,
    SubmitContext,
    VideoRequest,
)
from providers.checks import check
from providers.google_veo import default_url
from providers.google_veo_wire import build_body, operation_name, read_status, read_submitted
from providers.options import NotConfigured
from providers.registry import create_provider
from providers.wire import Clients
from tests.providers.contract import ProviderContract
from tests.providers.google_accounts import key_file
from tests.providers.test_wire import Script, answer

pytestmark = pytest.mark.anyio
TOKEN = "sub_0199AB"
PARENT = "projects/my-project/locations/us-central1"
NAME = f"{PARENT}/publishers/google/models/veo-3.1-generate-001/operations/0b5c"
STORAGE = "https://storage.googleapis.com"
URL = f"https://us-central1-aiplatform.googleapis.com/v1/{NAME}"


class TestGoogleVeo(ProviderContract):
    provider = "google_veo"
    status_words = False
    bucket = "gs://videos/out"

    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.folder = tmp_path

    def options(self, url):
        return options_for(url, self.folder) | {"bucket": self.bucket}


class TestGoogleVeoInline(TestGoogleVeo):
    """Without a bucket: there is no link that could expire, and a cut answer is cut in the poll."""

    bucket = ""

    async def test_an_expired_link_says_poll_again_and_the_fresh_one_works(self, stage):
        assert (await stage.download(await stage.accepted("a fox [[expired-url:1]]")))[1][4:8] == b"ftyp"

    async def test_a_truncated_file_is_noticed_and_can_be_fetched_again(self, stage):
        operation = await stage.accepted("a fox [[truncated:1]]")
        with pytest.raises(ProviderError) as caught:
            await stage.download(operation)
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.UNREADABLE, True)
        assert (await stage.download(operation))[1][4:8] == b"ftyp"


def options_for(url, folder, /, **changed):
    return {
        "project": "my-project",
        "credentials": str(key_file(folder, f"{url}/google_veo/token")),
        "url": f"{url}/google_veo",
        "storage_url": f"{url}/google_veo",
        **changed,
    }


def made(client, options):
    return create_provider("google_veo", Clients(client, client, client), options)


ASKED = {"model": "veo-3.1-generate-001", "duration": 8, "resolution": "720p"}
PARAMETERS = {"sampleCount": 1, "durationSeconds": 8, "resolution": "720p", "generateAudio": True}
BASE = {"instances": [{"prompt": "a fox"}], "parameters": PARAMETERS, "labels": {"dailies": "sub_0199ab"}}


def body_of(bucket=None, **asked):
    return build_body(
        VideoRequest(**({"prompt": "a fox"} | ASKED | asked)), SubmitContext(TOKEN, "https://us.test"), bucket
    )


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({}, {}),
        ({"seed": 0}, {"parameters": PARAMETERS | {"seed": 0}}),
        ({"audio": False}, {"parameters": PARAMETERS | {"generateAudio": False}}),
        ({"aspect_ratio": "9:16"}, {"parameters": PARAMETERS | {"aspectRatio": "9:16"}}),
        ({"negative_prompt": "blur"}, {"parameters": PARAMETERS | {"negativePrompt": "blur"}}),
        ({"bucket": "gs://b/out"}, {"parameters": PARAMETERS | {"storageUri": "gs://b/out/sub_0199ab/"}}),
        (
            {"image": Media(data=b"png"), "last_image": Media(url="gs://b/a.jpg", mime_type="image/jpeg")},
            {
                "instances": [
                    {
                        "prompt": "a fox",
                        "image": {"bytesBase64Encoded": "cG5n", "mimeType": "image/png"},
                        "lastFrame": {"gcsUri": "gs://b/a.jpg", "mimeType": "image/jpeg"},
                    }
                ]
            },
        ),
        (
            {"extra": {"parameters": {"personGeneration": "allow_adult"}, "labels": {"team": "x"}}},
            {
                "parameters": PARAMETERS | {"personGeneration": "allow_adult"},
                "labels": {"dailies": "sub_0199ab", "team": "x"},
            },
        ),
        (
            {"model": "veo-9", "duration": None, "resolution": None},
            {"parameters": {"sampleCount": 1, "generateAudio": True}},
        ),
    ],
)
def test_what_is_sent(asked, changed):
    assert body_of(**asked) == BASE | changed


@pytest.fixture
def anywhere(tmp_path):
    return made(None, options_for("http://127.0.0.1:1", tmp_path))


@pytest.mark.parametrize(
    "extra",
    [
        {"parameters": {"sampleCount": 4}},
        {"parameters": {"sample_count": 4}},
        {"parameters": {"storageUri": "gs://theirs"}},
        {"parameters": {"pubsubTopic": "x"}},
        {"parameters": {"durationSeconds": 8}},
        {"parameters": {"generate_audio": True}},
        {"parameters": [{}]},
        {"instances": []},
        {"labels": {"dailies": "x"}},
        {"labels": None},
    ],
)
def test_extra_changes_neither_price_nor_destination(anywhere, extra):
    assert check(VideoRequest("a fox", extra=extra), anywhere.capabilities)


def test_pictures_by_a_web_address_are_not_offered(anywhere):
    request = VideoRequest("a fox", image=Media(url="https://p.test/a.png"))
    assert check(request, anywhere.capabilities)[0].pointer == "/parameters/image/url"


async def test_a_picture_that_cannot_be_sent_is_rejected_before_anything_is(anywhere):
    request = VideoRequest("a fox", model="veo-9", image=Media(url="https://p.test/a.png"))
    result = await anywhere.submit(request, SubmitContext(TOKEN))
    assert isinstance(result, Rejected)
    assert (result.error.code, result.error.billed) == (ErrorCode.INVALID_REQUEST, False)


def poll(**body):
    return read_status({"name": NAME, **body}, URL, STORAGE)


def done(**response):
    return poll(done=True, response=response)


@pytest.mark.parametrize("body", [{}, {"done": False}, {"metadata": {"x": 1}}, {"response": {"videos": [{}]}}])
def test_what_is_not_done_is_running(body):
    status = poll(**body)
    assert (status.phase, status.progress, status.unknown_status) == (Phase.RUNNING, None, None)


@pytest.mark.parametrize(
    ("video", "url"),
    [
        ({"gcsUri": "gs://b/out/a b/s_0.mp4"}, f"{STORAGE}/storage/v1/b/b/o/out%2Fa%20b%2Fs_0.mp4?alt=media"),
        ({"gcsUri": "gs://b/a?x#y/../z"}, f"{STORAGE}/storage/v1/b/b/o/a%3Fx%23y%2F..%2Fz?alt=media"),
        ({"bytesBase64Encoded": "inline:0"}, f"{URL}#inline=0"),
        ({"gcsUri": "https://evil.test/", "bytesBase64Encoded": "inline:2"}, f"{URL}#inline=2"),
    ],
)
def test_where_the_video_is(video, url):
    status = done(raiMediaFilteredCount=0, videos=[5, {}, video | {"mimeType": "video/mp4"}])
    assert (status.phase, list(status.outputs)) == (Phase.SUCCEEDED, [Output(url, True, "video/mp4")])


def test_a_video_beside_filtered_ones_is_a_success():
    status = done(raiMediaFilteredCount=1, raiMediaFilteredReasons=["x"], videos=[{"gcsUri": "gs://b/a.mp4"}])
    assert status.phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ({"raiMediaFilteredCount": 1}, "the video was filtered out by Google's safety filters"),
        (
            {"raiMediaFilteredReasons": ["no. Support codes: 61493863"], "videos": []},
            "violence: no. Support codes: 61493863",
        ),
        (
            {"raiMediaFilteredReasons": ["a 29310472, 15236754", 5, "b 17301594 99999999"], "raiMediaFilteredCount": 2},
            "celebrity, child: a 29310472, 15236754 b 17301594 99999999",
        ),
    ],
)
def test_filtered_videos_are_refusals_in_words(response, said):
    status = done(**response)
    assert (status.phase, status.error.code, status.error.message) == (Phase.FAILED, ErrorCode.MODERATION, said)
    assert (status.error.retryable, status.error.billed, status.error.resubmit) == (False, None, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 3, "message": "The prompt violates our usage policy. Support codes: 90789179"}, ErrorCode.MODERATION),
        ({"code": 3, "message": "Unsupported duration"}, ErrorCode.INVALID_REQUEST),
        ({"code": 4, "message": "x"}, ErrorCode.TRANSIENT),
        ({"code": 8, "message": "x"}, ErrorCode.TRANSIENT),
        ({"code": 13, "message": "x"}, ErrorCode.TRANSIENT),
        ({"code": 14, "message": "x"}, ErrorCode.TRANSIENT),
        ({"code": 7, "message": "x"}, ErrorCode.AUTH),
        ({"code": 5, "message": "x"}, ErrorCode.NOT_FOUND),
        ({"code": 1, "message": "x"}, ErrorCode.CANCELLED),
        ({"code": 99}, ErrorCode.PROVIDER_ERROR),
        ({"code": True}, ErrorCode.PROVIDER_ERROR),
        ({"code": [], "message": {}}, ErrorCode.PROVIDER_ERROR),
        ("text", ErrorCode.PROVIDER_ERROR),
    ],
)
def test_failures(error, code):
    status = poll(done=True, error=error)
    assert (status.phase, status.error.code) == (Phase.FAILED, code)
    assert (status.error.billed, status.error.resubmit) == (None, False)
    assert ("sexual content: " in status.error.message) == (code is ErrorCode.MODERATION)


@pytest.mark.parametrize(
    "body", [{"done": True}, {"done": "yes"}, {"done": True, "response": {"videos": [{"gcsUri": "gs://b"}]}}]
)
def test_what_makes_no_sense_is_unreadable(body):
    with pytest.raises(ProviderError) as caught:
        poll(**body)
    assert caught.value.code is ErrorCode.UNREADABLE


@pytest.mark.parametrize("body", [None, [], {}, {"name": 5}, {"name": ""}, {"name": "x" * 501}])
def test_an_answer_without_a_name_is_no_operation(body):
    with pytest.raises(ValueError):  # noqa: PT011 - of either kind
        read_submitted(200, {}, body)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (Operation(NAME), NAME),
        (Operation("0b5c", {"model": "veo-3.1-generate-001"}), NAME),
        (Operation("0b5c", {"model": 5}), NAME.replace("3.1-generate", "d")),
    ],
)
def test_an_operation_may_be_named_in_short(operation, name):
    assert operation_name(operation, PARENT, "veo-d-001") == name


def test_where_the_api_is():
    assert default_url("europe-west4") == "https://europe-west4-aiplatform.googleapis.com"
    assert default_url("global") == "https://aiplatform.googleapis.com"


@pytest.mark.parametrize(
    "changed",
    [
        {"project": "My Project"},
        {"project": "a/b"},
        {"location": "evil.test/"},
        {"bucket": "gs://B"},
        {"bucket": "gs://bucket/a?b"},
        {"url": "gopher://x"},
        {"storage_url": "x"},
        {"api_key": "k"},
    ],
)
def test_wrong_options_are_refused(tmp_path, changed):
    with pytest.raises(ValueError, match=r".+"):
        made(None, options_for("http://x", tmp_path, **changed))


def test_what_is_needed_is_named():
    with pytest.raises(NotConfigured) as caught:
        made(None, {"location": "us-central1"})
    assert caught.value.missing == ("project", "credentials")


# Tokens on the way


async def test_no_token_is_a_rejection_and_nothing_was_sent(client, tmp_path):
    async with Script(answer(400, {"error": "invalid_grant"})) as google, Script(answer(200, {"name": NAME})) as veo:
        for token_uri, code in ((google.url, ErrorCode.AUTH), ("http://127.0.0.1:1/", ErrorCode.TRANSIENT)):
            options = options_for(veo.url, tmp_path, credentials=str(key_file(tmp_path, token_uri)))
            result = await made(client, options).submit(VideoRequest("a fox"), SubmitContext(TOKEN))
            assert isinstance(result, Rejected)
            assert (result.error.code, result.error.billed) == (code, False)
        missing = options_for(veo.url, tmp_path, credentials=str(tmp_path / "gone.json"))
        result = await made(client, missing).submit(VideoRequest("a fox"), SubmitContext(TOKEN))
        assert (type(result), result.error.code) == (Rejected, ErrorCode.AUTH)
    assert not veo.requests


def granted(token):
    return answer(200, {"access_token": token, "expires_in": 3599})


async def test_a_token_that_is_refused_is_not_used_again(client, tmp_path):
    refused = answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "expired"}})
    async with (
        Script(granted("a"), granted("b"), granted("c")) as google,
        Script(refused, refused, answer(200, {})) as veo,
    ):
        provider = made(client, options_for(veo.url, tmp_path, credentials=str(key_file(tmp_path, google.url))))
        result = await provider.submit(VideoRequest("a fox"), SubmitContext(TOKEN))
        assert (type(result), result.error.code) == (Rejected, ErrorCode.AUTH)
        with pytest.raises(ProviderError) as caught:
            await provider.poll(Operation(NAME))
        assert caught.value.code is ErrorCode.AUTH
        assert (await provider.poll(Operation(NAME))).phase is Phase.RUNNING
    sent = [head.lower().split("authorization: bearer ")[1][0] for head, _ in veo.requests]
    assert sent == ["a", "b", "c"]


async def test_the_token_goes_to_googles_own_addresses_only(client, server, tmp_path):
    provider = made(client, options_for(server.url, tmp_path))
    async with Script(answer(200, b"video")) as other:
        for url in (f"{other.url}/v.mp4", f"{other.url}/v1/{NAME}#inline=0"):
            async with provider.download(Output(url, authenticated=True)) as file:
                assert b"".join([chunk async for chunk in file.chunks()]) == b"video"
    assert all("authorization" not in head.lower() for head, _ in other.requests)


async def test_results_lie_in_a_folder_of_our_token(client, server, tmp_path):
    provider = made(client, options_for(server.url, tmp_path, bucket="videos/out/"))
    result = await provider.submit(VideoRequest("a fox"), SubmitContext(TOKEN))
    async with asyncio.timeout(10):
        while (status := await provider.poll(result.operation)).phase is Phase.RUNNING:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    assert f"{server.url}/google_veo/storage/v1/b/videos/o/out%2Fsub_0199ab%2F" in status.outputs[0].url


async def test_there_are_no_callbacks_and_no_cancel(anywhere):
    with pytest.raises(ProviderError) as caught:
        await anywhere.read_callback({}, b"{}", 0.0)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert not anywhere.capabilities.cancel
    assert not (await anywhere.cancel(Operation(NAME))).stopped


async def test_a_prompt_that_is_refused_at_once_names_its_category(client, server, tmp_path):
    provider = made(client, options_for(server.url, tmp_path))
    result = await provider.submit(VideoRequest("a fox [[refuse:moderation]]"), SubmitContext(TOKEN))
    assert result.error.message.startswith("sexual content: ")
