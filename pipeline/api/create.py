"""`POST /api/generations`: one request, or an array of them; answered after the commit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import require, service_of
from pipeline.api.body import LARGE, is_array, parse, read_raw, split_array
from pipeline.api.intake import RETRY_AFTER, Answer, Asked, Kept, check, keep
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.api.waiting import asked_seconds, until_ended
from pipeline.credentials import Scope
from pipeline.db import Row
from pipeline.lifecycle import TERMINAL
from pipeline.schemas import GenerationCreate, generation_view

_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
MAX_BATCH = 100


async def create(request: Request) -> Response:
    """202 with `Location` for a new generation, 200 with `Idempotency-Replayed: true` for a repeated request, or once
    it has ended, where `Prefer: wait` asks for that. An array is answered item by item."""
    tenant = (await require(request, Scope.SUBMIT)).tenant
    service = service_of(request)
    key = _idempotency_key(request)
    async with room(request, service):
        raw = await read_raw(request, service.max_body_bytes)
        if is_array(raw):
            return await _many(request, service, tenant, key, raw)
        kept = await _one(service, tenant, key, raw, request.state.trace)
    request.state.generation = kept.row["id"]
    if kept.new:
        service.wake()
    return await _answer(request, service, kept)


async def _one(service: Service, tenant: str, key: str | None, raw: bytes, trace: str | None) -> Kept:
    body = parse(raw, GenerationCreate) if len(raw) < LARGE else await asyncio.to_thread(parse, raw, GenerationCreate)
    (answer,) = await keep(service, [await check(service, tenant, key, body)], trace)
    if isinstance(answer, Problem):
        raise answer
    return answer


async def _answer(request: Request, service: Service, kept: Kept) -> Response:
    headers = {"Location": service.links.location(kept.row)}
    if not kept.new:
        headers["Idempotency-Replayed"] = "true"
    row, seconds = kept.row, asked_seconds(request)
    if seconds is not None:
        row = await until_ended(request, row, seconds)
        headers["Preference-Applied"] = f"wait={seconds}"
    ended = row["status"] in TERMINAL
    if not ended:
        headers["Retry-After"] = RETRY_AFTER
    return JSONResponse(_view(service, row, kept), 202 if kept.new and not ended else 200, headers)


async def _many(request: Request, service: Service, tenant: str, key: str | None, raw: bytes) -> Response:
    """202 when every item is a new generation, else 200; what is wrong with one hinders no other."""
    texts = split_array(raw, MAX_BATCH) if len(raw) < LARGE else await asyncio.to_thread(split_array, raw, MAX_BATCH)
    checked = [await _item(service, tenant, key, index, text) for index, text in enumerate(texts)]
    kept = iter(await keep(service, [item for item in checked if isinstance(item, Asked)], request.state.trace))
    answers = [next(kept) if isinstance(item, Asked) else item for item in checked]
    new = [isinstance(answer, Kept) and answer.new for answer in answers]
    if any(new):
        service.wake()
    body = {"object": "batch", "data": [_item_view(request, service, answer) for answer in answers]}
    return JSONResponse(body, 202 if all(new) else 200, {"Retry-After": RETRY_AFTER} if any(new) else {})


async def _item(service: Service, tenant: str, key: str | None, index: int, text: bytes) -> Asked | Problem:
    """One item, or what is wrong with it. The request's key becomes one for each item."""
    try:
        body = parse(text, GenerationCreate)
        return await check(service, tenant, None if key is None else f"{key} {index}", body)
    except Problem as problem:
        return problem


def _item_view(request: Request, service: Service, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Problem):
        return {"status": answer.status, "problem": answer.body(request)}
    return {"status": 202 if answer.new else 200, "generation": _view(service, answer.row, answer)}


@asynccontextmanager
async def room(request: Request, service: Service) -> AsyncIterator[None]:
    """A large body waits for its place before it is read; so does one that does not say how long it is."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:18]) <= LARGE:
        yield
        return
    async with service.large_bodies:
        yield


def _idempotency_key(request: Request) -> str | None:
    """The key, with or without the quotes of a structured field (draft-ietf-httpapi-idempotency-key-header)."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0]
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or not _KEY.match(key):
        raise Problem(400, "invalid_idempotency_key", "send one, of 1 to 255 visible ASCII characters, such as a UUID")
    return key


def _view(service: Service, row: Row, kept: Kept) -> dict[str, Any]:
    """The generation; where several may be asked, with what it costs if the dearest makes it."""
    most = {} if kept.most_micros is None else {"maxEstimatedCostMicros": kept.most_micros}
    return generation_view(row, service.links) | most
