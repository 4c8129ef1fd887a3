"""Are these bytes from whom they seem to be, and from just now? The schemes by which providers sign their callbacks.

Every function raises ProviderError: INVALID_REQUEST for a header that is missing or unreadable, AUTH for a signature
that is wrong or older than five minutes, TRANSIENT where it cannot be verified just now. Header names in any case.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib.util
from collections.abc import Mapping
from typing import Any

from providers.base import ErrorCode, ProviderError
from providers.wire.jwks import KeySet

TOLERANCE = 300.0
"""Seconds by which a callback's time may differ from ours, as Standard Webhooks, fal, Gemini and OpenRouter have it."""

MISSING_CRYPTO = 'this callback can be verified with the extra `crypto` only: pip install "PyJWT[crypto]"'


def has_crypto() -> bool:
    """Whether signatures by public keys can be verified here, with the extra `crypto`."""
    return importlib.util.find_spec("jwt") is not None and importlib.util.find_spec("cryptography") is not None


def header(headers: Mapping[str, str], name: str) -> str:
    """A header's value. Raises ProviderError(INVALID_REQUEST) when it is not there."""
    value = next((text for given, text in headers.items() if given.lower() == name.lower()), None)
    if value is None:
        raise ProviderError(ErrorCode.INVALID_REQUEST, f"the callback has no header {name}")
    return value


def require_fresh(timestamp: str, now: float) -> None:
    """Unix seconds as text, within TOLERANCE of `now`."""
    try:
        age = abs(now - int(timestamp))
    except ValueError:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's time is no number") from None
    if age > TOLERANCE:
        raise ProviderError(ErrorCode.AUTH, "the callback is more than five minutes old, or from the future")


def standard_secret(secret: str) -> bytes:
    """The key of a `whsec_...` secret. Raises ValueError.

    Source: the Standard Webhooks specification, https://github.com/standard-webhooks/standard-webhooks (2026-11).
    """
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("a webhook's secret is whsec_ and base64") from None


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
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra that need not be installed
        from jwt.algorithms import OKPAlgorithm  # noqa: PLC0415
    except ImportError:
        raise ProviderError(ErrorCode.TRANSIENT, MISSING_CRYPTO) from None
    try:
        signature = bytes.fromhex(signature_hex)
    except ValueError:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's signature is not hexadecimal") from None
    for known in (await keys.current(now), await keys.renewed(now)):
        for each in known:
            try:
                OKPAlgorithm.from_jwk(dict(each)).verify(signature, message)  # type: ignore[union-attr]
            except (InvalidSignature, ValueError, TypeError, AttributeError):
                continue
            return
    raise ProviderError(ErrorCode.AUTH, "the callback's signature is wrong")


async def verify_rs256(keys: KeySet, token: str, now: float) -> dict[str, Any]:
    """A JWT signed with RS256 by a key of a JWKS, not older than TOLERANCE. Returns its claims."""
    try:
        import jwt  # noqa: PLC0415 - an extra that need not be installed
    except ImportError:
        raise ProviderError(ErrorCode.TRANSIENT, MISSING_CRYPTO) from None
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.InvalidTokenError:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "the callback's signature is no JWT") from None
    for known in (await keys.current(now), await keys.renewed(now)):
        for each in known:
            if each.get("kid") != kid:
                continue
            claims = _claims(token, each)
            require_fresh(str(claims.get("iat", int(now))), now)
            return claims
    raise ProviderError(ErrorCode.AUTH, "the callback's signature is by a key that the provider does not publish")


def _claims(token: str, key: Mapping[str, Any]) -> dict[str, Any]:
    import jwt  # noqa: PLC0415 - an extra that need not be installed

    try:
        options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        claims: dict[str, Any] = jwt.decode(token, jwt.PyJWK(dict(key)), algorithms=["RS256"], options=options)
    except (jwt.InvalidTokenError, jwt.PyJWKError):
        raise ProviderError(ErrorCode.AUTH, "the callback's signature is wrong") from None
    return claims
