"""`Prefer: wait=N` (RFC 7240): the answer waits for the end of its generation."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request

from pipeline import generations
from pipeline.api.auth import service_of
from pipeline.db import Row
from pipeline.lifecycle import TERMINAL

MAX_SECONDS = 60
MAX_WAITING = 1_000
"""Whoever comes when so many wait is answered at once."""
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')
_SECONDS = re.compile(r'"?([0-9]{1,9})"?', re.ASCII)


def asked_seconds(request: Request) -> int | None:
    """How long the caller would wait, at most a minute; None without the preference, or one that cannot be read.

    Of several the first counts, and one that makes no sense is as if it were not there (RFC 7240, section 2).
    """
    for header in request.headers.getlist("prefer"):
        for preference in _PREFERENCE.findall(header):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip().lower() == "wait":
                found = _SECONDS.fullmatch(value.strip())
                return None if found is None else min(MAX_SECONDS, int(found[1]))
    return None


async def until_ended(request: Request, row: Row, seconds: int) -> Row:
    """The generation once it has ended, or as it is when the time is over, the client gone, or the server closing."""
    service = service_of(request)
    if row["status"] in TERMINAL or not seconds or service.waiters.count >= MAX_WAITING:
        return row
    closing: asyncio.Event = request.scope.get("state", {}).get("closing") or asyncio.Event()
    with service.waiters.wait(row["id"]) as ended:
        others: list[asyncio.Future[Any]] = [asyncio.create_task(closing.wait()), asyncio.create_task(_gone(request))]
        try:
            await asyncio.wait([ended, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in others:
                task.cancel()
        if ended.done():
            return ended.result()
    return await service.db.read(lambda tx: generations.find_any(tx, row["id"])) or row


async def _gone(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
