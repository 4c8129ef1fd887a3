"""Under which key, id, timestamp and body the signature is right. Pure."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from webhooks.diagnosis.bodies import Form, forms
from webhooks.diagnosis.keys import Reading, readings
from webhooks.ed25519 import PRIVATE, InvalidKey, is_signed, public_of
from webhooks.signing import MOST_ENTRIES

MOST = 32
"""Entries of a signature header, and secrets, that are looked at."""
BYTES = 64 << 20
"""Bytes that are hashed at most: a large body is tried in fewer ways."""


@dataclass(frozen=True, slots=True)
class Known:
    """A secret and where it came from, in words."""

    secret: str
    source: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is signed before the body; `id_mend` and `time_mend` say what is wrong where it is not as it should be."""

    text: bytes
    id_mend: str | None = None
    time_mend: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """What fits. `entry` counts the signature's entries from 1, `spelled` says what is odd about how it is written."""

    known: Known
    reading: Reading
    form: Form
    prefix: Prefix
    entry: int
    spelled: str | None

    @property
    def oddness(self) -> int:
        """How much is not as it should be."""
        mends = (self.reading.mend, self.form.mend, self.prefix.id_mend, self.prefix.time_mend, self.spelled)
        return sum(mend is not None for mend in mends)


def find(known: Sequence[Known], entries: Sequence[str], event_id: str, timestamp: str, body: bytes) -> Match | None:
    """The match with the fewest oddities, at most three; the order of `known` decides between equals."""
    return _by_secret(known, entries, event_id, timestamp, body) or _by_public_key(
        known, entries, event_id, timestamp, body
    )


def _by_public_key(
    known: Sequence[Known], entries: Sequence[str], event_id: str, timestamp: str, body: bytes
) -> Match | None:
    """Entries of `v1a`, which a public key checks."""
    given = [(n, entry.removeprefix("v1a,")) for n, entry in enumerate(entries[:MOST], 1) if entry.startswith("v1a,")]
    keys = [(each, public) for each in known[:MOST] if (public := _public(each.secret)) is not None]
    for prefix, form, (each, public) in product(_prefixes(event_id, timestamp), forms(body), keys):
        for number, entry in given[:MOST_ENTRIES]:
            if is_signed(public, entry, prefix.text + form.body):
                mend = None if public == each.secret else "it is the private key: a receiver needs whpk_... only"
                return Match(each, Reading(public.encode(), mend), form, prefix, number, None)
    return None


def _public(secret: str) -> str | None:
    try:
        public = public_of(secret) if secret.startswith(PRIVATE) else secret
        is_signed(public, "", b"")
    except InvalidKey:
        return None
    return public


def _by_secret(
    known: Sequence[Known], entries: Sequence[str], event_id: str, timestamp: str, body: bytes
) -> Match | None:
    given = {digest: (number, odd) for number, entry in reversed(list(enumerate(entries[:MOST], 1)))
             for digest, odd in _digests(entry)}  # fmt: skip
    bodies, prefixes = list(forms(body)), list(_prefixes(event_id, timestamp))
    keys = [(each, reading) for each in known[:MOST] for reading in readings(each.secret)]
    ways = sorted(product(keys, bodies, prefixes), key=lambda way: _cost(*way))
    left, best = BYTES, None
    for (each, reading), form, prefix in ways:
        cost = _cost((each, reading), form, prefix)
        left -= len(form.body) + 200
        if cost > 3 or left < 0 or (best is not None and cost >= best.oddness):
            break
        found = given.get(hmac.digest(reading.key, prefix.text + form.body, "sha256"))
        if found is not None:
            match = Match(each, reading, form, prefix, *found)
            best = match if best is None or match.oddness < best.oddness else best
    return best


def _cost(key: tuple[Known, Reading], form: Form, prefix: Prefix) -> int:
    mends = (key[1].mend, form.mend, prefix.id_mend, prefix.time_mend)
    return sum(mend is not None for mend in mends)


def _digests(entry: str) -> Iterator[tuple[bytes, str | None]]:
    """What an entry may stand for, with what is odd about it."""
    version, comma, text = entry.partition(",")
    if not comma:
        version, _, text = entry.partition("=") if entry.startswith(("v1=", "sha256=")) else ("", "", entry)
    odd = None if (version, comma) == ("v1", ",") else "an entry is written v1,BASE64"
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        yield bytes.fromhex(text), "the digest is written in hex; it has to be base64"
        return
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        digest = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return
    if len(digest) == 32:
        clean = base64.b64encode(digest).decode() == text
        yield digest, odd or (None if clean else "the digest is base64url or lacks its padding; it has to be base64")


def _prefixes(event_id: str, timestamp: str) -> Iterator[Prefix]:
    """`id.timestamp.` as it is, and as it is got wrong."""
    yield Prefix(f"{event_id}.{timestamp}.".encode())
    if event_id.strip() != event_id:
        yield Prefix(f"{event_id.strip()}.{timestamp}.".encode(), id_mend="white space was put around the id")
    missing = "the id was left out of what is signed: it is `id.timestamp.body`"
    yield Prefix(f"{timestamp}.".encode(), id_mend=missing)
    yield Prefix(b"", id_mend="only the body was signed: what is signed is `id.timestamp.body`")
    yield Prefix(f"{timestamp}.{event_id}.".encode(), id_mend="id and timestamp were swapped in what is signed")
    yield Prefix(f"{event_id}.".encode(), time_mend="the timestamp was left out of what is signed")
    for changed, mend in _times(timestamp):
        yield Prefix(f"{event_id}.{changed}.".encode(), time_mend=mend)


def _times(timestamp: str) -> Iterator[tuple[str, str]]:
    digits = timestamp.strip()
    if digits != timestamp:
        yield digits, "white space was put around the timestamp"
    if digits.isascii() and digits.isdigit() and len(digits) < 20:
        yield f"{digits}000", "the timestamp was signed in milliseconds; it is in seconds"
        if len(digits) > 11:
            yield digits[:-3], "the timestamp came in milliseconds and was signed in seconds: send it in seconds"
