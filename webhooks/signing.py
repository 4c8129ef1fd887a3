"""Sign and verify by Standard Webhooks 1.0, schemes `v1` (HMAC) and `v1a` (Ed25519, see `ed25519`).

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

from webhooks import ed25519

PREFIX = "whsec_"
TOLERANCE = 300.0
"""Seconds that a timestamp may be in the past or future: the official libraries' figure."""

MOST_ENTRIES = 20
"""Entries `v1a` that are looked at: each costs a tenth of a millisecond, whoever sent it."""

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
        secrets: every live secret; each gives one entry, so that receivers can change over in their own time. A
            `whsk_` key gives an entry `v1a`, any other secret one `v1`.
        event_id: the same on every attempt; printable ASCII without a dot.
        timestamp: Unix seconds of this attempt, not of the event: receivers refuse it 300 s later.
        body: the very bytes that are sent.

    Raises InvalidSecret or InvalidKey, and ValueError for an id or timestamp that cannot be signed.
    """
    if not secrets:
        raise ValueError("at least one secret is needed to sign")
    if not _ID.fullmatch(event_id):
        raise ValueError(f"event id {event_id!r} is not 1 to 256 printable ASCII characters without a dot")
    if not _TIMESTAMP.fullmatch(str(timestamp)):
        raise ValueError(f"timestamp {timestamp!r} is not whole seconds since 1970")
    content = _content(event_id, str(timestamp), body)
    entries = [_entry(secret, content) for secret in secrets]
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(entries)}


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: float, tolerance: float = TOLERANCE
) -> None:
    """Return if `body` was signed with one of `secrets` not longer than `tolerance` seconds from `now` (Unix seconds).

    A `whpk_` key among the secrets is looked for in the entries `v1a`, any other secret in those of `v1`; entries of
    other versions are passed over. Whatever the headers hold, the only error about them is InvalidSignature. Raises
    InvalidSecret or InvalidKey for our own secrets. Header names match in any case.
    """
    event_id, timestamp, signature = (_single(headers, part) for part in ("id", "timestamp", "signature"))
    if not _ID.fullmatch(event_id):
        raise InvalidSignature("id", "is malformed: printable ASCII without a dot is expected")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidSignature("timestamp", "is malformed: whole seconds since 1970 are expected")
    _check_age(now - int(timestamp), tolerance)
    _check_entries(secrets, signature.split(" "), _content(event_id, timestamp, body))


def _check_entries(secrets: Sequence[str], entries: Sequence[str], content: bytes) -> None:
    versions = dict.fromkeys("v1a" if secret.startswith(ed25519.PUBLIC) else "v1" for secret in secrets or ("",))
    given = {name: [e.removeprefix(f"{name},") for e in entries if e.startswith(f"{name},")] for name in versions}
    if not any(given.values()):
        raise InvalidSignature("signature", f"is malformed: no {' or '.join(versions)} entry in it")
    for secret in secrets:
        if secret.startswith(ed25519.PUBLIC):
            good = [ed25519.is_signed(secret, each, content) for each in given["v1a"][:MOST_ENTRIES]]
        else:
            expected = _hmac(secret, content).encode()
            good = [hmac.compare_digest(expected, each.encode("utf-8", "replace")) for each in given["v1"]]
        if any(good):
            return
    raise InvalidSignature("signature", "does not match: another secret, or the body's bytes were changed")


def _content(event_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{event_id}.{timestamp}.".encode() + body


def _entry(secret: str, content: bytes) -> str:
    if secret.startswith(ed25519.PRIVATE):
        return "v1a," + ed25519.sign_bytes(secret, content)
    return "v1," + _hmac(secret, content)


def _hmac(secret: str, content: bytes) -> str:
    return base64.b64encode(hmac.digest(parse_secret(secret), content, "sha256")).decode()


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
