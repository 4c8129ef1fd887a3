"""`POST /api/generations`: validated whole, kept once, answered after the commit."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations
from pipeline.api.auth import require, service_of
from pipeline.api.body import LARGE, read_json
from pipeline.api.check import checked
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.credentials import Scope
from pipeline.db import NothingWritten, Row
from pipeline.generations import Conflict, StoredImage
from pipeline.ids import new_id
from pipeline.names import input_key
from pipeline.schemas import GenerationCreate, generation_view
from pipeline.storage import StorageError

_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
RETRY_AFTER = "1"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that can be kept: who asks, for what, of whom, and the picture's bytes if it came with one."""

    tenant: str
    key: str | None
    body: GenerationCreate
    provider: str
    image: bytes | None


async def create(request: Request) -> Response:
    """202 with `Location` for a new generation, 200 with `Idempotency-Replayed: true` for a repeated request."""
    tenant = (await require(request, Scope.SUBMIT)).tenant
    service = service_of(request)
    key = _idempotency_key(request)
    async with _room(request, service):
        body = await read_json(request, GenerationCreate, service.max_body_bytes)
        asked = await _check(service, tenant, key, body)
        with _under_way(service, asked):
            row, new = await _keep(service, asked)
    request.state.generation = row["id"]
    headers = {"Location": service.links.location(row)}
    if not new:
        return JSONResponse(generation_view(row, service.links), 200, headers | {"Idempotency-Replayed": "true"})
    service.wake()
    return JSONResponse(generation_view(row, service.links), 202, headers | {"Retry-After": RETRY_AFTER})


@asynccontextmanager
async def _room(request: Request, service: Service) -> AsyncIterator[None]:
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


async def _check(service: Service, tenant: str, key: str | None, body: GenerationCreate) -> _Asked:
    """The request with its provider and picture; a large picture is decoded and hashed off the event loop."""

    def look() -> _Asked:
        provider, image = checked(service, body)
        assert body.fingerprint  # computed here, so that no transaction waits for it
        return _Asked(tenant, key, body, provider, image)

    picture = body.parameters.image
    large = picture is not None and picture.data is not None and len(picture.data) > LARGE
    return await asyncio.to_thread(look) if large else look()


@contextmanager
def _under_way(service: Service, asked: _Asked) -> Iterator[None]:
    """One answer at a time per key: a second request meanwhile is told to wait for the first."""
    marks = {(asked.tenant, f"key:{asked.key}")} if asked.key else set()
    if asked.body.generation_id:
        marks.add((asked.tenant, f"id:{asked.body.generation_id}"))
    if marks & service.under_way:
        raise Problem(
            409,
            "request_in_progress",
            "the same request is being answered on another connection; ask again in a moment",
            headers={"Retry-After": RETRY_AFTER},
            retryable=True,
        )
    service.under_way |= marks
    try:
        yield
    finally:
        service.under_way -= marks


async def _keep(service: Service, asked: _Asked) -> tuple[Row, bool]:
    """Commit the generation, its picture stored before; the row, and whether it is new. Raises Problem."""
    try:
        if asked.image is None:
            return await _commit(service, asked, _new_id(service), None)
        known = await service.db.read(lambda tx: generations.repeated(tx, asked.tenant, asked.body, asked.key))
        return (known, False) if known is not None else await _keep_with_image(service, asked, asked.image)
    except Conflict as conflict:
        raise _conflict(conflict) from None


def _new_id(service: Service) -> str:
    return new_id("gen", service.clock.now_ms(), service.random)


async def _keep_with_image(service: Service, asked: _Asked, image: bytes) -> tuple[Row, bool]:
    """The picture is removed again when it is certain that no generation names it."""
    generation_id = _new_id(service)
    stored = await _store_image(service, asked, generation_id, image)
    needed = True
    try:
        row, needed = await _commit(service, asked, generation_id, stored)
    except (Conflict, NothingWritten):
        needed = False
        raise
    finally:
        if not needed:
            with suppress(StorageError):
                await service.storage.delete(stored.key)
    return row, needed


async def _commit(service: Service, asked: _Asked, generation_id: str, image: StoredImage | None) -> tuple[Row, bool]:
    return await service.db.write(
        lambda tx: generations.create(
            tx,
            generation_id=generation_id,
            tenant=asked.tenant,
            request=asked.body,
            provider=asked.provider,
            idempotency_key=asked.key,
            image=image,
        )
    )


def _conflict(conflict: Conflict) -> Problem:
    if conflict.member == "generationId":
        detail = "a generation with this generationId exists and was asked for differently"
        errors = [{"pointer": "/generationId", "detail": "is taken"}]
        return Problem(409, "generation_id_conflict", detail, errors=errors, existing_id=conflict.existing["id"])
    detail = "this Idempotency-Key was used with another body: use a new key for a new request"
    return Problem(422, "idempotency_conflict", detail, existing_id=conflict.existing["id"])


async def _store_image(service: Service, asked: _Asked, generation_id: str, image: bytes) -> StoredImage:
    assert asked.body.parameters.image is not None
    mime = asked.body.parameters.image.mime_type
    assert mime is not None
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(image).hexdigest())
    stored = StoredImage(input_key(asked.tenant, generation_id), sha256, mime)
    with tempfile.TemporaryDirectory(prefix="dailies-") as folder:
        path = Path(folder) / "input"
        await asyncio.to_thread(path.write_bytes, image)
        try:
            await service.storage.put(stored.key, path, content_type=mime, sha256=sha256)
        except StorageError as error:
            raise Problem(
                503,
                "storage_unavailable",
                f"the input image could not be kept: {error}",
                headers={"Retry-After": "5"},
                retryable=True,
            ) from None
    return stored
