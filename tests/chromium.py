"""A real browser, headless: it opens a page that a test serves, and the page tells the test what it saw."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipeline.server import HttpServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
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
TELL = 'const tell = (what) => fetch("/told", {method: "POST", body: JSON.stringify(what)});'
"""JavaScript for the page: `tell(anything)` ends `told`."""


class Site:
    """One page on an origin of its own."""

    def __init__(self) -> None:
        self.html = ""
        self.told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.origin = ""

    async def page(self, _: Request) -> Response:
        return HTMLResponse(self.html)

    async def hear(self, request: Request) -> Response:
        if not self.told.done():
            self.told.set_result(json.loads(await request.body()))
        return Response(status_code=204)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A site whose page is still to be written."""
    made = Site()
    app = Starlette(routes=[Route("/", made.page), Route("/told", made.hear, methods=["POST"])])
    async with HttpServer(app, "127.0.0.1", 0) as server:
        made.origin = f"http://127.0.0.1:{server.port}"
        yield made


async def visit(made: Site, html: str, profile: Path, seconds: float = 40) -> Any:
    """What the page told."""
    made.html = html
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *QUIET,
        f"--user-data-dir={profile}",
        f"{made.origin}/",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        return await asyncio.wait_for(made.told, seconds)
    finally:
        browser.kill()
        await browser.wait()
