"""What dialects read of a request: its JSON, bounded, and its key."""

from __future__ import annotations

import json
import math

from starlette.requests import Request

from providers.mock.order import Refusal

MAX_BODY = 32 << 20


async def read_json(request: Request) -> object:
    """The body as JSON, in whole characters and finite numbers. Raises Refusal 400 or 413."""
    raw = await read_raw(request)
    if not raw:
        raise Refusal(400, "invalid_request", "the body is not JSON")
    try:
        parsed: object = json.loads(raw)
        _require_plain(parsed, "the body")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "invalid_request", "the body is not JSON") from error
    except ValueError as error:
        raise Refusal(400, "invalid_request", str(error)) from error
    return parsed


def _require_plain(value: object, name: str) -> None:
    """Raises ValueError for what no JSON can be written of: half characters, and numbers without end."""
    if isinstance(value, dict):
        for member, below in value.items():
            _require_plain(member, "a member's name")
            _require_plain(below, member)
    elif isinstance(value, list):
        for below in value:
            _require_plain(below, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} holds a number that is too large, or none")
    elif isinstance(value, str) and value.encode("utf-8", "replace").decode() != value:
        raise ValueError(f"{name} holds half a character")


async def read_object(request: Request) -> dict[str, object]:
    """The body as a JSON object. Raises Refusal 400 or 413."""
    parsed = await read_json(request)
    if not isinstance(parsed, dict):
        raise Refusal(400, "invalid_request", "the body must be a JSON object")
    return parsed


async def read_raw(request: Request) -> bytes:
    """The body's bytes. Raises Refusal 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refusal(413, "too_large", f"the body is larger than {MAX_BODY} bytes", {"connection": "close"})
    return bytes(body)


def require_bearer(request: Request, scheme: str = "bearer") -> str:
    """The key of `Authorization: <scheme> <key>`, whatever it is. Raises Refusal 401."""
    given, _, key = request.headers.get("authorization", "").partition(" ")
    if given.lower() != scheme or not key.strip():
        raise Refusal(401, "unauthorized", f"an Authorization header with a {scheme.capitalize()} key is missing")
    return key.strip()


def origin(request: Request) -> str:
    """Where the mock itself is, with a slash at the end and without any dialect's prefix."""
    return f"{request.url.scheme}://{request.url.netloc}/"
