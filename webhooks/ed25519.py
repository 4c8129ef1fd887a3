"""Sign by Standard Webhooks 1.0, scheme `v1a`: Ed25519 (RFC 8032), for receivers that should hold no secret. Pure.

`whsk_` is base64 of the seed and the public key, 64 bytes, and `whpk_` of the public key, 32 bytes. The specification
names the prefixes alone; the lengths are those of Svix's server (server/svix-server/src/core/cryptography.rs, seen
2026-08), which also takes a seed alone. An error never contains a key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature as _WrongSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE, PUBLIC = "whsk_", "whpk_"
SEED = 32
"""Bytes of a seed, and of a public key."""


class InvalidKey(ValueError):
    """The key cannot be used; the message says what is wrong and never contains the key."""


def new_key_pair(random: Callable[[int], bytes]) -> str:
    """A fresh private key, `whsk_...`, from 32 bytes of `random`; see `public_of` for its other half."""
    key = Ed25519PrivateKey.from_private_bytes(random(SEED))
    return PRIVATE + _encoded(key.private_bytes_raw() + key.public_key().public_bytes_raw())


def public_of(private: str) -> str:
    """The public half `whpk_...` of a private key. Raises InvalidKey."""
    return PUBLIC + _encoded(_private(private).public_key().public_bytes_raw())


def sign_bytes(private: str, content: bytes) -> str:
    """The base64 of the signature of `content` by a `whsk_` key. Raises InvalidKey."""
    return _encoded(_private(private).sign(content))


def is_signed(public: str, signature: str, content: bytes) -> bool:
    """Whether a base64 signature of `content` is by this `whpk_` key; False for whatever is no signature.

    Raises InvalidKey for the key.
    """
    raw = _decoded(public, PUBLIC)
    if len(raw) != SEED:
        raise InvalidKey(f"the public key holds {len(raw)} bytes; {SEED} are needed")
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature, validate=True), content)
    except (_WrongSignature, ValueError):
        return False
    return True


def _private(text: str) -> Ed25519PrivateKey:
    raw = _decoded(text, PRIVATE)
    if len(raw) not in (SEED, 2 * SEED):
        raise InvalidKey(f"the private key holds {len(raw)} bytes; {SEED} or {2 * SEED} are needed")
    key = Ed25519PrivateKey.from_private_bytes(raw[:SEED])
    if raw[SEED:] not in (b"", key.public_key().public_bytes_raw()):
        raise InvalidKey("the two halves of the private key do not belong together")
    return key


def _decoded(text: str, prefix: str) -> bytes:
    if not text.startswith(prefix):
        raise InvalidKey(f"the key does not begin with {prefix}")
    try:
        return base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKey("the key is not base64 with its padding: cut short, or not copied whole?") from None


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
