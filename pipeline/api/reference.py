"""`/openapi.json` and `/docs`: the reference of the API, made when it is first asked for."""

from __future__ import annotations

import asyncio
import json
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_KEPT = {"Cache-Control": "max-age=300"}
_NOTHING_FROM_ELSEWHERE = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(await asyncio.to_thread(_document), media_type="application/json", headers=_KEPT)


async def docs(request: Request) -> Response:
    """The same as a page, which loads nothing and runs nothing."""
    page = await asyncio.to_thread(_page)
    return HTMLResponse(page, headers=_KEPT | {"Content-Security-Policy": _NOTHING_FROM_ELSEWHERE})


@cache
def _document() -> bytes:
    from pipeline.api.openapi import document  # noqa: PLC0415 - a tenth of a second that no start has to wait for

    return json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()


@cache
def _page() -> str:
    from pipeline.api.openapi import page  # noqa: PLC0415 - as above

    return page()
