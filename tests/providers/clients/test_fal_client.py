"""fal's official client, unmodified, over TLS against the mock's dialect."""

import asyncio
import os
import sys

import httpx
import pytest
import trustme

from providers.mock.serve import MockServer
from providers.mock.server import create_mock
from tests.providers.contract import SPEED

fal_client = pytest.importorskip("fal_client")
import fal_client.client as fal  # noqa: E402 - the module, where its address stands

pytestmark = pytest.mark.anyio

VEO = "fal-ai/veo3.1/fast"
SEEDANCE = "bytedance/seedance-2.5/image-to-video"


@pytest.fixture
async def secured(tmp_path, monkeypatch):
    """A mock over TLS, whose certificate the client is told to trust by the usual variable."""
    authority, pem = trustme.CA(), tmp_path / "mock.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with MockServer(create_mock(speed=SPEED), certificate=pem) as server:
        yield server


@pytest.fixture
async def official(secured, monkeypatch):
    monkeypatch.setattr(fal, "QUEUE_URL_FORMAT", f"{secured.url}/fal/")
    monkeypatch.setattr(fal, "MAX_ATTEMPTS", 1)
    client = fal_client.AsyncClient(key="kid:secret")
    yield client
    await (await client._client).aclose()


async def fetched(url):
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).content


async def test_text_to_video_from_order_to_file(official, secured):
    asked = {"prompt": "a fox", "duration": "4s", "resolution": "720p", "seed": 7, "generate_audio": False}
    handle = await official.submit(VEO, arguments=asked, priority="low", start_timeout=30)
    seen = [event async for event in handle.iter_events(with_logs=True, interval=0.005)]
    assert isinstance(seen[-1], fal_client.Completed)
    assert seen[-1].error is None
    result = await handle.get(interval=0.005)
    assert (await fetched(result["video"]["url"]))[4:8] == b"ftyp"
    assert await official.result(VEO, handle.request_id) is not None
    async with httpx.AsyncClient() as client:
        (entry,) = (await client.get(f"{secured.url}/ledger")).json()["entries"]
    assert (entry["dialect"], entry["charged_micros"], entry["id"]) == ("fal", 600_000, handle.request_id)


@pytest.mark.parametrize("picture", ["https://a.test/1.png", fal_client.encode(b"\x89PNG", "image/png")])
async def test_image_to_video(official, picture):
    asked = {"prompt": "a fox", "image_url": picture, "end_image_url": picture, "duration": "5"}
    handle = await official.submit(SEEDANCE, arguments=asked)
    assert "video" in await handle.get(interval=0.005)


async def test_cancel(official):
    handle = await official.submit(VEO, arguments={"prompt": "a fox [[stuck]]"})
    await handle.cancel()
    status = await handle.status()
    assert (status.error_type, type(status)) == ("client_cancelled", fal_client.Completed)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        await handle.get(interval=0.005)
    assert caught.value.status_code == 499


async def test_a_moderation_refusal_and_a_lost_runner(official):
    handle = await official.submit(VEO, arguments={"prompt": "a fox [[fail:moderation]]"})
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        await handle.get(interval=0.005)
    assert (caught.value.status_code, caught.value.message[0]["type"]) == (422, "content_policy_violation")
    handle = await official.submit(VEO, arguments={"prompt": "a fox [[fail:transient]]"})
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        await handle.get(interval=0.005)
    assert (caught.value.status_code, caught.value.error_type) == (503, "runner_disconnected")


@pytest.mark.parametrize(
    ("fault", "status"),
    [("401", 401), ("402", 403), ("429", 429), ("fail:invalid", 422), ("refuse:moderation", 422), ("503-submit", 503)],
)
async def test_refused_submits(official, fault, status):
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        await official.submit(VEO, arguments={"prompt": f"a fox [[{fault}]]"})
    assert caught.value.status_code == status
    assert caught.value.message


async def test_a_wrong_input_is_told_as_the_endpoint_does(official):
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        await official.submit(VEO, arguments={"prompt": "a fox", "duration": 8})
    (item,) = caught.value.message
    assert (item["loc"], item["type"]) == (["body", "duration"], "literal_error")


async def test_the_client_as_a_program_has_it(secured):
    """Nothing of the client is touched: two variables, and its one call that does everything."""
    code = f"import fal_client; print(fal_client.subscribe({VEO!r}, {{'prompt': 'a fox'}})['video']['url'])"
    host = f"{secured.url.removeprefix('https://')}/fal"
    environment = {**os.environ, "FAL_QUEUE_RUN_HOST": host, "FAL_KEY": "kid:secret"}
    pipe = asyncio.subprocess.PIPE
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment, stdout=pipe, stderr=pipe)
    out, trouble = await run.communicate()
    assert run.returncode == 0, trouble.decode()
    assert (await fetched(out.decode().strip()))[4:8] == b"ftyp"
