"""A real browser plays the link of a webhook: no key, ranges, H.264."""

import asyncio
import json
import shutil

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipeline.server import HttpServer
from tests.house import open_house

pytestmark = pytest.mark.anyio

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)

PAGE = """<!doctype html><video id="v" muted autoplay src="{url}"></video><script>
const v = document.getElementById("v");
const tell = (what) => fetch("/told", {{method: "POST", body: JSON.stringify(what)}});
v.onerror = () => tell({{error: v.error.message}});
v.ontimeupdate = () => {{ if (v.currentTime > 0.3) {{
  tell({{duration: v.duration, width: v.videoWidth, height: v.videoHeight, at: v.currentTime}}); v.ontimeupdate = null;
  }} }};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
async def test_chromium_plays_the_video(tmp_path):
    told: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
    async with open_house(tmp_path) as house:
        asked = await house.submit("a fox in a browser", parameters={"duration": 3})
        url = (await house.ended(asked["id"]))["result"]["videoUrl"]

        async def page(_: Request) -> Response:
            return HTMLResponse(PAGE.format(url=url))

        async def hear(request: Request) -> Response:
            if not told.done():
                told.set_result(json.loads(await request.body()))
            return Response(status_code=204)

        app = Starlette(routes=[Route("/", page), Route("/told", hear, methods=["POST"])])
        async with HttpServer(app, "127.0.0.1", 0) as server:
            browser = await asyncio.create_subprocess_exec(
                CHROMIUM,
                *QUIET,
                f"--user-data-dir={tmp_path / 'profile'}",
                f"http://127.0.0.1:{server.port}/",
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                seen = await asyncio.wait_for(told, 40)
            finally:
                browser.kill()
                await browser.wait()
    assert seen.get("error") is None
    assert seen["duration"] == pytest.approx(3, abs=0.1)
    assert (seen["width"], seen["height"]) == (640, 360)
