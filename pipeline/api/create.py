"""`POST /api/generations`: validated whole, kept once, answered after the commit."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import generations
from pipeline.api.auth import service_of, tenant_of
from pipeline.api.problems import Problem, from_validation
from pipeline.api.service import Service
from pipeline.db import Row
from pipeline.generations import Conflict, StoredImage
from pipeline.ids import new_id
from pipeline.schemas import GenerationCreate, generation_view
from pipeline.storage import StorageError
from providers.checks import check

_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
RETRY_AFTER = "1"


async def create(request: Request) -> Response:
    """202 with `Location` for a new generation, 200 with `Idempotency-Replayed: true` for a repeated request."""
    tenant = tenant_of(request)
    service = service_of(request)
    key = _idempotency_key(request)
    body = await _parse(request)
    provider, image = _checked(service, body)
    with _under_way(service, tenant, key, body):
        row, new = await _keep(service, tenant, body, provider, key, image)
    if new:
        service.wake()
    headers = {"Location": service.links.location(row)}
    if not new:
        return JSONResponse(generation_view(row, service.links), 200, headers | {"Idempotency-Replayed": "true"})
    return JSONResponse(generation_view(row, service.links), 202, headers | {"Retry-After": RETRY_AFTER})


def _idempotency_key(request: Request) -> str | None:
    """The key, with or without the quotes of a structured field (draft-ietf-httpapi-idempotency-key-header)."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if not _KEY.match(key):
        raise Problem(400, "invalid_idempotency_key", "use 1 to 255 visible ASCII characters, such as a UUID")
    return key


async def _parse(request: Request) -> GenerationCreate:
    """The body as a request. Raises Problem 413, 415, 400 or 422."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "unsupported_media_type", f"the body is {kind!r}; send `Content-Type: application/json`")
    raw = await read_body(request, service_of(request).max_body_bytes)
    try:
        from_json(raw)
    except ValueError as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}") from None
    try:
        return GenerationCreate.model_validate_json(raw)
    except ValidationError as error:
        raise from_validation(error) from None


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body, at most `limit` bytes. Raises Problem 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Problem(413, "body_too_large", f"the body has more than {limit} bytes")
    return bytes(body)


def _checked(service: Service, body: GenerationCreate) -> tuple[str, bytes | None]:
    """The provider's name and the picture's bytes. Raises Problem for what can be refused before anything is paid."""
    name = body.provider or service.default_provider
    if name not in service.providers:
        known = sorted(service.providers)
        raise Problem(
            422,
            "unknown_provider",
            f"this service has no provider {name!r}",
            errors=[{"pointer": "/provider", "detail": "is not configured here", "allowed": known}],
        )
    _check_webhook(service, body)
    image = _image(service, body)
    found = check(body.video_request(image), service.providers[name].capabilities)
    if found:
        errors = [
            {"pointer": p.pointer, "detail": p.detail} | ({"allowed": p.allowed} if p.allowed is not None else {})
            for p in found
        ]
        raise Problem(422, "unsupported_parameters", f"{name} does not offer what was asked for", errors=errors)
    return name, image


def _check_webhook(service: Service, body: GenerationCreate) -> None:
    if body.webhook is None:
        return
    host = (urlsplit(body.webhook.url).hostname or "").lower()
    if host not in service.webhook_hosts:
        detail = "its host is not in WEBHOOK_HOSTS" if service.webhook_hosts else "WEBHOOK_HOSTS allows no host"
        raise Problem(
            422,
            "webhook_not_allowed",
            f"events can only be sent to hosts that the operator allows: {detail}",
            errors=[{"pointer": "/webhook/url", "detail": detail, "allowed": sorted(service.webhook_hosts)}],
        )
    unknown = set(body.webhook.events or ()) - service.events
    if unknown:
        errors = [{"pointer": "/webhook/events", "detail": f"{sorted(unknown)} do not exist", "allowed": sorted(service.events)}]
        raise Problem(422, "invalid_request", "an event type does not exist", errors=errors)


def _image(service: Service, body: GenerationCreate) -> bytes | None:
    given = body.parameters.image
    if given is None or given.data is None:
        return None
    pointer = "/parameters/image/data"
    try:
        data = given.decode()
    except ValueError as error:
        raise Problem(422, "invalid_request", "the image cannot be read", errors=[{"pointer": pointer, "detail": str(error)}]) from None
    if len(data) > service.max_image_bytes:
        detail = f"has {len(data)} bytes; MAX_IMAGE_BYTES allows {service.max_image_bytes}"
        raise Problem(422, "invalid_request", "the image is too large", errors=[{"pointer": pointer, "detail": detail}])
    return data


@contextmanager
def _under_way(service: Service, tenant: str, key: str | None, body: GenerationCreate) -> Iterator[None]:
    """One answer at a time per key: a second request meanwhile is told to wait for the first."""
    marks = {(tenant, f"key:{key}")} if key else set()
    if body.generation_id:
        marks.add((tenant, f"id:{body.generation_id}"))
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


async def _keep(
    service: Service, tenant: str, body: GenerationCreate, provider: str, key: str | None, image: bytes | None
) -> tuple[Row, bool]:
    """Store the picture, then commit the generation. Raises Problem on a conflict or without storage."""
    generation_id = new_id("gen", service.clock.now_ms(), service.random)
    try:
        if image is not None:
            known = await service.db.read(lambda tx: generations.repeated(tx, tenant, body, key))
            if known is not None:
                return known, False
        stored = None if image is None else await _store_image(service, tenant, generation_id, image, body)
        return await service.db.write(
            lambda tx: generations.create(
                tx,
                generation_id=generation_id,
                tenant=tenant,
                request=body,
                provider=provider,
                idempotency_key=key,
                image=stored,
            )
        )
    except Conflict as conflict:
        raise _conflict(conflict) from None


def _conflict(conflict: Conflict) -> Problem:
    if conflict.member == "generationId":
        detail = "a generation with this generationId exists and was asked for differently"
        errors = [{"pointer": "/generationId", "detail": "is taken"}]
        return Problem(409, "generation_id_conflict", detail, errors=errors, existingId=conflict.existing["id"])
    detail = "this Idempotency-Key was used with another body: use a new key for a new request"
    return Problem(422, "idempotency_conflict", detail, existingId=conflict.existing["id"])


async def _store_image(
    service: Service, tenant: str, generation_id: str, image: bytes, body: GenerationCreate
) -> StoredImage:
    assert body.parameters.image is not None
    mime = body.parameters.image.mime_type or "image/png"
    sha256 = hashlib.sha256(image).hexdigest()
    stored = StoredImage(f"inputs/{tenant}/{generation_id}", sha256, mime)
    with tempfile.TemporaryDirectory(prefix="dailies-") as folder:
        path = Path(folder) / "input"
        await asyncio.to_thread(path.write_bytes, image)
        try:
            await service.storage.put(stored.key, path, content_type=mime, sha256=sha256)
        except StorageError as error:
            raise Problem(
                503, "storage_unavailable", f"the input image could not be kept: {error}", headers={"Retry-After": "5"}, retryable=True
            ) from None
    return stored
