"""Secrets: subkeys of SECRET_KEY, signed links, callback tokens, what is kept sealed, and the file that a laptop's own
secrets live in."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HASH = hashlib.sha256


def derive(secret: str, purpose: str) -> bytes:
    """A 32-byte subkey for one purpose: HKDF-SHA256 (RFC 5869) with an empty salt and one block of output."""
    extracted = hmac.new(bytes(32), secret.encode(), HASH).digest()
    return hmac.new(extracted, b"dailies/" + purpose.encode() + b"\x01", HASH).digest()


class Signer:
    """Signs and checks short tokens for one purpose. The first secret signs, all are accepted: that is rotation."""

    def __init__(self, secrets: Sequence[str], purpose: str) -> None:
        if not secrets:
            raise ValueError("a signer needs at least one secret")
        self._keys = [derive(secret, purpose) for secret in secrets]

    def sign(self, subject: str, expires: int) -> str:
        """A token that names when it ends (Unix seconds) and proves that we issued it for `subject`."""
        return f"{expires:x}-{self._mac(self._keys[0], subject, expires)}"

    def verify(self, subject: str, token: str, now: float) -> bool:
        """Whether the token was issued by us for this subject and has not ended."""
        head, _, mac = token.partition("-")
        try:
            expires = int(head, 16)
        except ValueError:
            return False
        if expires < now or len(head) > 16 or not mac.isascii():
            return False
        return any(hmac.compare_digest(mac, self._mac(key, subject, expires)) for key in self._keys)

    @staticmethod
    def ends(token: str) -> int:
        """When a token that was verified ends (Unix seconds)."""
        return int(token.partition("-")[0], 16)

    def seal(self, subject: str) -> str:
        """The subject with a proof that we handed it out; it does not end."""
        return f"{subject}.{self._mac(self._keys[0], subject, 0)}"

    def unseal(self, sealed: str) -> str | None:
        """The subject of what `seal` made, or None for anything else."""
        subject, _, mac = sealed.rpartition(".")
        if not mac.isascii():
            return None
        good = any(hmac.compare_digest(mac, self._mac(key, subject, 0)) for key in self._keys)
        return subject if good else None

    @staticmethod
    def _mac(key: bytes, subject: str, expires: int) -> str:
        digest = hmac.new(key, f"{subject}\n{expires}".encode(), HASH).digest()
        return base64.urlsafe_b64encode(digest[:24]).decode()


NONCE = 12


class CannotOpen(Exception):
    """What was sealed cannot be opened: with another SECRET_KEY, in another place, or it was changed."""


class Box:
    """Keeps texts secret at rest: AES-256-GCM under a subkey of SECRET_KEY. The first secret seals, all can open.

    A sealed text is `{key}.{base64url(nonce + ciphertext)}`; `key` is eight hex digits that name the subkey and tell
    nothing of it. It is bound to its place (`about`), so that a row copied over another one does not open there.
    """

    def __init__(self, secrets: Sequence[str], purpose: str) -> None:
        if not secrets:
            raise ValueError("a box needs at least one secret")
        self._keys = {
            derive(secret, f"{purpose}/name")[:4].hex(): AESGCM(derive(secret, purpose)) for secret in secrets[::-1]
        }
        self.current = derive(secrets[0], f"{purpose}/name")[:4].hex()

    def seal(self, text: str, about: str, random: Callable[[int], bytes] = os.urandom) -> str:
        """The text as it may be kept; `random` gives the nonce, which must never come twice."""
        nonce = random(NONCE)
        ciphertext = self._keys[self.current].encrypt(nonce, text.encode(), about.encode())
        return f"{self.current}.{base64.urlsafe_b64encode(nonce + ciphertext).decode()}"

    def open(self, sealed: str, about: str) -> str:
        """What `seal` was given for this place. Raises CannotOpen."""
        name, _, text = sealed.partition(".")
        if name not in self._keys:
            raise CannotOpen("it was sealed with a SECRET_KEY that is not set any more")
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
            return self._keys[name].decrypt(raw[:NONCE], raw[NONCE:], about.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise CannotOpen("it is not what was sealed here") from None

    def is_current(self, sealed: str) -> bool:
        """Whether the first secret sealed it, so that the others are not needed for it."""
        return sealed.partition(".")[0] == self.current


def local_secret(path: Path, name: str, make: Callable[[], str]) -> str:
    """The secret `name` from the file at `path` (mode 0600); what `make` returns is kept there the first time.

    Two processes that start at once agree on one secret. Raises ValueError when the file is not what we write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_name(f"{path.name}.lock")):
        known = _read(path)
        if name not in known:
            known[name] = make()
            part = path.with_name(f"{path.name}.part")
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(known, file, indent=2)
            os.replace(part, path)
        return str(known[name])


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as our secrets: {error}") from None
    if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
        raise ValueError(f"{path} does not hold our secrets: names with texts, as JSON")
    return known


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock file; whoever else wants it waits."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
