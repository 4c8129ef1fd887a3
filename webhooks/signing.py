"""Sign and verify by Standard Webhooks 1.0, scheme `v1`.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, 2026-08.
Pure: bytes and numbers in, headers or an error out. Errors::

    InvalidSecret(ValueError)    a secret that not every library would read the same way
    InvalidSignature(Exception)  a message that is not to be believed; `part` says which header is wrong
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

PREFIX = "whsec_"
TOLERANCE = 300.0
"""Seconds that a timestamp may be in the past or future: the official libraries' figure."""

Part = Literal["id", "timestamp", "signature"]

_ID = re.compile(r"[!-\-/-~]{1,256}")  # printable ASCII without the dot, which separates the signed parts
_TIMESTAMP = re.compile(r"[0-9]{1,11}")


class InvalidSecret(ValueError):
    """The secret cannot be used; the message says what is wrong and never contains the secret."""


class InvalidSignature(Exception):
    """The message is not authentic, or not fresh.

    Args:
        part: which header is wrong: `id`, `timestamp` or `signature`.
        problem: what is wrong with it, for people.
    """

    def __init__(self, part: Part, problem: str) -> None:
        super().__init__(f"webhook-{part} {problem}")
        self.part = part


def new_secret(random: Callable[[int], bytes]) -> str:
    """A fresh secret: `whsec_` and the base64 of 24 bytes from `random`, for example `os.urandom`."""
    return PREFIX + base64.b64encode(random(24)).decode()


def parse_secret(text: str) -> bytes:
    """The key of a secret: 24 to 64 bytes in padded standard base64, with or without `whsec_`.

    Stricter than the official libraries, which read hex or base64url loosely and not alike: such a secret
    would sign well here and fail at the receiver. Raises InvalidSecret.
    """
    if text != text.strip():
        raise InvalidSecret("the webhook secret has white space around it")
    encoded = text.removeprefix(PREFIX)
    if encoded.startswith(("whsk_", "whpk_")):
        raise InvalidSecret("the webhook secret is half of an asymmetric key pair; a whsec_ secret is needed")
    if set(encoded) & set("-_"):
        raise InvalidSecret("the webhook secret is base64url; standard base64 (with + and /) is needed")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise InvalidSecret(
            "the webhook secret is not base64 with its padding: cut short, or not copied whole?"
        ) from None
    if base64.b64encode(key).decode() != encoded:
        raise InvalidSecret(
            "the webhook secret is not base64 as an encoder writes it: its last characters were changed"
        )
    if not 24 <= len(key) <= 64:
        raise InvalidSecret(f"the webhook secret holds {len(key)} bytes; 24 to 64 are needed")
    return key


def sign(secrets: Sequence[str], *, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that authenticate `body`.

    Args:
        secrets: every live secret; each gives one entry, so that receivers can change over in their own time.
        event_id: the same on every attempt; printable ASCII without a dot.
        timestamp: Unix seconds of this attempt, not of the event: receivers refuse it 300 s later.
        body: the very bytes that are sent.

    Raises InvalidSecret, and ValueError for an id or timestamp that cannot be signed.
    """
    if not secrets:
        raise ValueError("at least one secret is needed to sign")
    if not _ID.fullmatch(event_id):
        raise ValueError(f"event id {event_id!r} is not 1 to 256 printable ASCII characters without a dot")
    if not _TIMESTAMP.fullmatch(str(timestamp)):
        raise ValueError(f"timestamp {timestamp!r} is not whole seconds since 1970")
    entries = [_entry(secret, event_id, str(timestamp), body) for secret in secrets]
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(entries)}


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: float, tolerance: float = TOLERANCE
) -> None:
    """Return if `body` was signed with one of `secrets` not longer than `tolerance` seconds from `now` (Unix seconds).

    Whatever the headers hold, the only error about them is InvalidSignature. Raises InvalidSecret for our own secrets.
    Header names match in any case; entries of other versions (`v1a`) are passed over.
    """
    event_id, timestamp, signature = (_single(headers, part) for part in ("id", "timestamp", "signature"))
    if not _ID.fullmatch(event_id):
        raise InvalidSignature("id", "is malformed: printable ASCII without a dot is expected")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidSignature("timestamp", "is malformed: whole seconds since 1970 are expected")
    _check_age(now - int(timestamp), tolerance)
    given = [entry.encode("utf-8", "replace") for entry in signature.split(" ") if entry.startswith("v1,")]
    if not given:
        raise InvalidSignature("signature", "is malformed: no v1 entry in it")
    expected = [_entry(secret, event_id, timestamp, body).encode() for secret in secrets]
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise InvalidSignature("signature", "does not match: another secret, or the body's bytes were changed")


def _entry(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(parse_secret(secret), f"{event_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def _single(headers: Mapping[str, str], part: Part) -> str:
    values = [value for name, value in headers.items() if name.lower() == f"webhook-{part}"]
    if len(values) > 1:
        raise InvalidSignature(part, "was sent more than once")
    if not values or not values[0]:
        raise InvalidSignature(part, "is missing")
    return values[0]


def _check_age(age: float, tolerance: float) -> None:
    if age > tolerance:
        raise InvalidSignature(
            "timestamp", f"is {age:.0f} s old, more than {tolerance:.0f}: a replay, or a clock is wrong"
        )
    if age < -tolerance:
        raise InvalidSignature("timestamp", f"is {-age:.0f} s in the future: one of the two clocks is wrong")
