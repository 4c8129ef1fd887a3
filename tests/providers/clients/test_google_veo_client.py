"""google-genai, unmodified, makes videos with Veo at the mock's Google Cloud; its own library fetches the tokens."""

import asyncio
import time
from urllib.parse import quote

import pytest

genai = pytest.importorskip("google.genai")
import google.auth.credentials  # noqa: E402
from google.auth.transport.requests import AuthorizedSession, Request  # noqa: E402
from google.genai import errors, types  # noqa: E402
from google.oauth2 import service_account  # noqa: E402

from tests.providers.google_accounts import account  # noqa: E402

pytestmark = pytest.mark.anyio

MODEL = "veo-3.1-generate-001"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class Token(google.auth.credentials.Credentials):
    def __init__(self):
        super().__init__()
        self.token = "ya29.test"

    def refresh(self, request):
        self.token = "ya29.test"


@pytest.fixture
def official(server):
    options = types.HttpOptions(base_url=f"{server.url}/google_veo")
    client = genai.Client(
        vertexai=True, project="proj", location="us-central1", credentials=Token(), http_options=options
    )
    yield client
    client.close()


def create(official, prompt="a fox", image=None, **config):
    config = {"number_of_videos": 1, "duration_seconds": 4, "labels": {"job": "j1"}, **config}
    return official.models.generate_videos(
        model=MODEL,
        source=types.GenerateVideosSource(prompt=prompt, image=image),
        config=types.GenerateVideosConfig(**config),
    )


def ended(official, operation):
    until = time.monotonic() + 10
    while not operation.done:
        assert time.monotonic() < until
        time.sleep(0.01)
        operation = official.operations.get(types.GenerateVideosOperation(name=operation.name))
    return operation


def made(official, **asked):
    return ended(official, create(official, **asked)).response.generated_videos[0].video


async def test_text_to_video_comes_inside_the_answer(official, server, client):
    config = {
        "seed": 7,
        "aspect_ratio": "9:16",
        "resolution": "1080p",
        "person_generation": "allow_adult",
        "negative_prompt": "blur",
        "generate_audio": True,
    }
    video = await asyncio.to_thread(made, official, **config)
    assert (video.mime_type, video.uri, video.video_bytes[4:8]) == ("video/mp4", None, b"ftyp")
    totals = (await client.get(f"{server.url}/ledger")).json()["totals"]
    assert (totals["accepted"], totals["charged_micros"]) == (1, 1_600_000)


async def test_image_to_video_comes_into_the_bucket(official, server, client):
    image = types.Image(image_bytes=b"\x89PNG", mime_type="image/png")
    last = types.Image(gcs_uri="gs://pictures/a.png", mime_type="image/png")
    video = await asyncio.to_thread(made, official, image=image, last_frame=last, output_gcs_uri="gs://videos/out/")
    assert video.uri.startswith("gs://videos/out/")
    key = quote(video.uri.removeprefix("gs://videos/"), safe="")
    url = f"{server.url}/google_veo/storage/v1/b/videos/o/{key}?alt=media"
    assert (await client.get(url)).status_code == 401
    assert (await client.get(url.replace("%2F", "/"), headers={"authorization": "Bearer x"})).status_code == 404
    assert (await client.get(url, headers={"authorization": "Bearer x"})).content[4:8] == b"ftyp"


async def test_four_videos_cost_four_times_as_much(official, server, client):
    await asyncio.to_thread(create, official, number_of_videos=4)
    assert (await client.get(f"{server.url}/ledger")).json()["totals"]["charged_micros"] == 4 * 1_600_000


async def test_a_filtered_video(official):
    done = await asyncio.to_thread(lambda: ended(official, create(official, "a fox [[fail:moderation]]")))
    assert done.error is None
    assert done.response.generated_videos is None
    assert "Support codes: 61493863" in done.response.rai_media_filtered_reasons[0]


async def test_a_failure_says_why(official):
    done = await asyncio.to_thread(lambda: ended(official, create(official, "a fox [[fail:transient]]")))
    assert (done.error["code"], done.response) == (13, None)


@pytest.mark.parametrize(
    ("fault", "kind", "code", "status"),
    [
        ("refuse:moderation", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("fail:invalid", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("401", errors.ClientError, 401, "UNAUTHENTICATED"),
        ("402", errors.ClientError, 403, "PERMISSION_DENIED"),
        ("429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("500-submit", errors.ServerError, 500, "INTERNAL"),
        ("503-submit", errors.ServerError, 503, "UNAVAILABLE"),
    ],
)
async def test_errors(official, fault, kind, code, status):
    with pytest.raises(kind) as caught:
        await asyncio.to_thread(create, official, f"a fox [[{fault}]]")
    assert (caught.value.code, caught.value.status) == (code, status)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"duration_seconds": 5}, "duration"),
        ({"resolution": "360p"}, "resolution"),
        ({"aspect_ratio": "1:1"}, "aspectRatio"),
        ({"number_of_videos": 5}, "sampleCount"),
        ({"person_generation": "crowds"}, "personGeneration"),
        ({"output_gcs_uri": "s3://b"}, "storageUri"),
        ({"labels": {"Job": "x"}}, "labels"),
    ],
)
async def test_what_the_real_one_refuses_is_refused(official, config, said):
    with pytest.raises(errors.ClientError) as caught:
        await asyncio.to_thread(lambda: create(official, **config))
    assert (caught.value.code, said in caught.value.message) == (400, True)


async def test_an_operation_that_nobody_knows(official):
    def journey():
        name = create(official).name
        return official.operations.get(types.GenerateVideosOperation(name=name + "x"))

    with pytest.raises(errors.ClientError) as caught:
        await asyncio.to_thread(journey)
    assert caught.value.code == 404


async def test_googles_own_library_gets_a_token_for_a_service_account(server):
    def journey():
        info = account(f"{server.url}/google_veo/token")
        credentials = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
        with AuthorizedSession(credentials) as session:
            credentials.refresh(Request(session))
        return credentials.token

    assert await asyncio.to_thread(journey) == "ya29.mock"
