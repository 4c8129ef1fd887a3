"""Are these bytes from whom they seem to be, and from just now? The schemes by which providers sign their callbacks.

Every function raises ProviderError: INVALID_REQUEST for a header that is missing or unreadable, AUTH for a signature
that is wrong or older than five minutes, TRANSIENT where it cannot be verified just now. Header names in any case.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from jwt.algorithms import OKPAlgorithm

from providers.base import ErrorCode, ProviderError
from providers.wire.jwks import KeySet

TOLERANCE = 300.0
"""Seconds by which a callback's time may differ from ours, as Standard Webhooks, fal, Gemini and OpenRouter have it."""
MIN_SECRET = 16
"""Bytes of a shared secret. The specification asks for 24 to 64; below 16 it is a mistake of the settings."""

_NO_KEY = (ValueError, TypeError, AttributeError, KeyError, RecursionError, jwt.PyJWTError)
"""What comes of a JWK that is of another kind, or none at all: it is passed over."""


def header(headers: Mapping[str, str], name: str) -> str:
    """A header's value. Raises ProviderError(INVALID_REQUEST) when it is not there or no text."""
    value = next((text for given, text in headers.items() if given.lower() == name.lower()), None)
    if value is None:
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"the callback has no header {name}")
    if not value.isprintable():
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"the callback's header {name} is no text")
    return value


def require_fresh(timestamp: str, now: float) -> None:
    """Unix seconds as text, with or without a fraction, within TOLERANCE of `now`."""
    try:
        age = abs(now - float(timestamp))
    except ValueError:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's time is no number") from None
    if not age <= TOLERANCE:  # so is what cannot be compared
        raise ProviderError(ErrorCode.AUTH, "the callback is more than five minutes old, or from the future")


def standard_secret(secret: str) -> bytes:
    """The key of a `whsec_...` secret. Raises ValueError, also for one so short that it could be guessed.

    Source: the Standard Webhooks specification, https://github.com/standard-webhooks/standard-webhooks (2026-11).
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("a webhook's secret is whsec_ and base64") from None
    if len(key) < MIN_SECRET:
        raise ValueError(f"a webhook's secret is whsec_ and base64 of at least {MIN_SECRET} bytes")
    return key


def verify_standard(key: bytes, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """Standard Webhooks, `v1` (HMAC-SHA256). Returns the event's `webhook-id`."""
    event, timestamp = header(headers, "webhook-id"), header(headers, "webhook-timestamp")
    require_fresh(timestamp, now)
    signed = f"{event}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    given = header(headers, "webhook-signature").split(" ")
    if not any(hmac.compare_digest(f"v1,{expected}".encode(), each.encode()) for each in given):
        raise ProviderError(ErrorCode.AUTH, "the callback's signature is wrong")
    return event


async def verify_ed25519(keys: KeySet, signature_hex: str, message: bytes, now: float) -> None:
    """An Ed25519 signature by any key of a JWKS."""
    try:
        signature = bytes.fromhex(signature_hex)
    except ValueError:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's signature is not hexadecimal") from None
    for get in (keys.current, keys.renewed):
        for each in await get(now):
            with contextlib.suppress(InvalidSignature, *_NO_KEY):
                OKPAlgorithm.from_jwk(dict(each)).verify(signature, message)  # type: ignore[union-attr]
                return
    raise ProviderError(ErrorCode.AUTH, "the callback's signature is wrong")


async def verify_rs256(keys: KeySet, token: str, now: float) -> dict[str, Any]:
    """A JWT signed with RS256 by a key of a JWKS, issued (`iat`) at most TOLERANCE ago. Returns its claims."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except _NO_KEY:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's signature is no JWT") from None
    for get in (keys.current, keys.renewed):
        for each in await get(now):
            claims = _claims(token, each) if each.get("kid") == kid and each.get("kty") == "RSA" else None
            if claims is not None:
                _require_issued(claims.get("iat"), now)
                return claims
    raise ProviderError(ErrorCode.AUTH, "the callback's signature is by no key that the provider publishes")


def _claims(token: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the token says, or None where this key did not sign it."""
    options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        claims: dict[str, Any] = jwt.decode(token, jwt.PyJWK(dict(key)), algorithms=["RS256"], options=options)
    except _NO_KEY:
        return None
    return claims


def _require_issued(iat: object, now: float) -> None:
    """A token that does not say when it was made would be good for ever."""
    if isinstance(iat, bool) or not isinstance(iat, int | float):
        raise ProviderError(ErrorCode.AUTH, "the callback's signature does not say when it was made")
    require_fresh(str(iat), now)
