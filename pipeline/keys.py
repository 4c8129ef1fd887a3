"""Secrets: subkeys of SECRET_KEY, signed links, callback tokens, and the file that a laptop's own secrets live in."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
