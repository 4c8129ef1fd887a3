"""Request bodies: bounded bytes, strict JSON, and what is wrong with it, member by member."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from pipeline.api.problems import Problem, from_validation

LARGE = 100_000
"""Bytes from which a body is parsed off the event loop: a picture of 20 MB takes tens of milliseconds."""

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M], limit: int) -> M:
    """The body as a model. Raises Problem 415, 413, 400 or 422."""
    raw = await read_raw(request, limit)
    return parse(raw, model) if len(raw) < LARGE else await asyncio.to_thread(parse, raw, model)


async def read_raw(request: Request, limit: int) -> bytes:
    """The bytes of a body that is announced as JSON. Raises Problem 415 or 413.

    The media type is asked for without exception: a web page may send any other one to a service on localhost unasked.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        said = f"the body is {kind!r}" if kind else "the body has no Content-Type"
        raise Problem(415, "unsupported_media_type", f"{said}; send `Content-Type: application/json`")
    return await read_body(request, limit)


async def read_optional(request: Request, model: type[M], limit: int) -> M:
    """The same; a request without any body asks for what the model has by itself."""
    if "content-type" not in request.headers and not await read_body(request, limit):
        return model()
    return await read_json(request, model, limit)


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body, at most `limit` bytes, whatever its Content-Length says. Raises Problem 413."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:18]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"the body has more than {limit} bytes")


def parse(raw: bytes, model: type[M]) -> M:
    """JSON as a model. Raises Problem 400 when it is no JSON, 422 when its members cannot be taken."""
    try:
        parsed = model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, "invalid_json", f"the body is not JSON: {first['ctx']['error']}") from None
        raise from_validation(error) from None
    json.loads(raw, object_pairs_hook=_once)
    return parsed


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a member that is given twice: which one would be paid for is anybody's guess."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem(400, "invalid_json", f"the member {twice[:100]!r} is given twice")
    return members


_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def is_array(raw: bytes) -> bool:
    """Whether the body begins as a JSON array."""
    return raw.lstrip(b" \t\n\r")[:1] == b"["


def split_array(raw: bytes, limit: int) -> list[bytes]:
    """The texts of the items of a JSON array, as they were sent. Raises Problem 400, or 422 above `limit` or for none.

    They are cut and not parsed, so that each is read as strictly as if it had come alone.
    """
    try:
        items = _items(raw.decode(), limit)
    except (ValueError, IndexError, RecursionError) as error:
        said = str(error) if isinstance(error, json.JSONDecodeError) else "it is not an array to its end"
        raise Problem(400, "invalid_json", f"the body is not JSON: {said}") from None
    if not 1 <= len(items) <= limit:
        errors = [{"pointer": "", "detail": f"takes 1 to {limit} items"}]
        raise Problem(422, "invalid_request", f"an array takes 1 to {limit} requests", errors=errors)
    return items


def _items(text: str, limit: int) -> list[bytes]:
    items: list[bytes] = []
    at = _after_space(text, text.index("[") + 1)
    more = text[at] != "]"
    while more and len(items) <= limit:
        _, end = _DECODER.raw_decode(text, at)
        items.append(text[at:end].encode())
        at = _after_space(text, end)
        more = text[at] == ","
        if more:
            at = _after_space(text, at + 1)
    if not more and text[at:].strip(" \t\n\r") != "]":
        raise ValueError("something follows")
    return items


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
