"""What a secret may have been taken for, each with what went wrong if the signature fits it. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from webhooks.signing import PREFIX, InvalidSecret, parse_secret

_OTHER_KINDS = {
    "whsk_": "a private key of v1a",
    "whpk_": "a public key of v1a",
    "sk_": "an API key",
    "dk_": "an API key",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One key that a secret gives; `mend` is None where it was read as it should be."""

    key: bytes
    mend: str | None


def readings(secret: str) -> Iterator[Reading]:
    """Every way to read a secret, the right one first, none twice."""
    seen: set[bytes] = set()
    for key, mend in _tried(secret):
        if key is not None and key not in seen:
            seen.add(key)
            yield Reading(key, mend)


def _tried(secret: str) -> Iterator[tuple[bytes | None, str | None]]:
    yield _strict(secret), None
    clean = _cleaned(secret)
    if clean != secret:
        yield _strict(clean), "the secret carries white space, quotes or a line's end: take them away"
    bare = clean.removeprefix(PREFIX)
    yield (
        _loose(bare),
        "the secret is base64 that strict readers refuse (base64url, cut padding): copy it anew, whole",
    )
    yield bare.encode(), "the signer used the secret's text as the key: what follows whsec_ has to be decoded as base64"
    yield clean.encode(), "the signer used the whole text with whsec_ as the key: cut whsec_ off and decode the rest"
    yield _twice(bare), "the secret was encoded twice: what follows whsec_ is base64 of base64"
    yield _hex(bare), "the secret was read as hex: it is base64"


def _cleaned(secret: str) -> str:
    return re.sub(r"(\\n|\\r)+$", "", secret.strip().strip("'\"")).strip()


def kind_problem(secret: str, *, asymmetric: bool) -> str | None:
    """Why a secret can be no key at all; None if it can. `asymmetric`: there is an entry of v1a."""
    clean = _cleaned(secret)
    if asymmetric and clean.startswith(("whsk_", "whpk_")):
        return None
    for prefix, kind in _OTHER_KINDS.items():
        if clean.removeprefix(PREFIX).startswith(prefix):
            return f"it is {kind} ({prefix}...); the secret of a webhook begins with {PREFIX}"
    try:
        parse_secret(secret)
    except InvalidSecret as error:
        return str(error)
    return None


def _strict(text: str) -> bytes | None:
    try:
        return parse_secret(text)
    except InvalidSecret:
        return None


def _loose(text: str) -> bytes | None:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _twice(text: str) -> bytes | None:
    once = _loose(text)
    return None if once is None or not once.isascii() else _loose(once.decode("ascii"))


def _hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text) or None
    except ValueError:
        return None
