"""Secrets of endpoints: the only writer of `webhook_secret`. Shown once when they are made, kept sealed.

An endpoint signs with all that are live. The newest of each kind has no end; a rotation gives those before it one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.db import Row, Tx
from pipeline.ids import new_id
from pipeline.keys import Box, CannotOpen
from webhooks import ed25519, signing

PURPOSE = "webhook"
"""Of the subkey that seals: see `Box`."""

HMAC, ED25519 = "v1", "v1a"
SIGNING: Mapping[str, tuple[str, ...]] = {"v1": (HMAC,), "v1a": (ED25519,), "both": (HMAC, ED25519)}
"""How an endpoint may sign, and the kinds of secret that takes."""

MAX_LIVE = 10
"""Secrets with which one endpoint signs: each costs every receiver a comparison."""

SHOWN = len(signing.PREFIX) + 4
"""Characters of a secret by which people tell it from others; at least 168 random bits stay unknown."""


class TooManySecrets(Exception):
    """So many are live already that one more would not be taken."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in the open: `v1` with a `whsec_...`, or `v1a` with a `whsk_...`."""

    kind: str
    text: str

    @property
    def hint(self) -> str:
        """What may always be shown of it: the public key, or the first characters."""
        return ed25519.public_of(self.text) if self.kind == ED25519 else self.text[:SHOWN]


def new_secrets(kinds: Sequence[str], random: Callable[[int], bytes], *, given: str | None = None) -> list[Secret]:
    """Fresh secrets of these kinds; `given` takes the place of the `v1` that would be made. Raises InvalidSecret."""
    if given is not None:
        signing.parse_secret(given)
        given = signing.PREFIX + given.removeprefix(signing.PREFIX)
    made = {HMAC: lambda: given or signing.new_secret(random), ED25519: lambda: ed25519.new_key_pair(random)}
    return [Secret(kind, made[kind]()) for kind in kinds]


def add(tx: Tx, box: Box, endpoint: Row, secrets: Sequence[Secret], random: Callable[[int], bytes]) -> None:
    """Keep secrets of an endpoint, without an end."""
    for secret in secrets:
        secret_id = new_id("whs", tx.now, random)
        row = {
            "id": secret_id,
            "tenant_id": endpoint["tenant_id"],
            "endpoint_id": endpoint["id"],
            "kind": secret.kind,
            "sealed": box.seal(secret.text, secret_id, random),
            "hint": secret.hint,
            "created_at": tx.now,
            "expires_at": None,
        }
        tx.insert("webhook_secret", row)


def rotate(
    tx: Tx, box: Box, endpoint: Row, secrets: Sequence[Secret], *, overlap_ms: int, random: Callable[[int], bytes]
) -> None:
    """Put new secrets in the place of those without an end, which go on signing for `overlap_ms` milliseconds.

    With no overlap every older one is forgotten at once, those that were ending too: that is for a secret that leaked.
    The caller holds the endpoint's row. Raises TooManySecrets.
    """
    if not overlap_ms:
        forget(tx, endpoint["id"])
    elif len(live(tx, [endpoint["id"]])) + len(secrets) > MAX_LIVE:
        raise TooManySecrets(endpoint["id"])
    tx.run(
        "UPDATE webhook_secret SET expires_at = :end WHERE endpoint_id = :id AND expires_at IS NULL",
        {"id": endpoint["id"], "end": tx.now + overlap_ms},
    )
    add(tx, box, endpoint, secrets, random)


def live(tx: Tx, endpoints: Collection[str]) -> list[Row]:
    """The secrets with which some endpoints sign just now, newest first."""
    if not endpoints:
        return []
    return tx.all(
        f"SELECT * FROM webhook_secret WHERE endpoint_id {tx.among}"
        " AND (expires_at IS NULL OR expires_at > :now) ORDER BY endpoint_id, id DESC",
        {"ids": tx.of(sorted(endpoints)), "now": tx.now},
    )


def opened(box: Box, rows: Sequence[Row]) -> list[str]:
    """Secrets in the open. Raises CannotOpen when there is none that opens: the others sign without it."""
    found, wrong = [], CannotOpen("the endpoint has no secret")
    for row in rows:
        try:
            found.append(box.open(row["sealed"], row["id"]))
        except CannotOpen as error:
            wrong = error
    if not found:
        raise wrong
    return found


def signing_of(rows: Sequence[Row]) -> str:
    """How an endpoint with these live secrets signs from now on, by those that have no end. WEBHOOK_SECRET is `v1`."""
    current = {row["kind"] for row in rows if row["expires_at"] is None}
    return next((name for name, kinds in SIGNING.items() if set(kinds) == current), HMAC)


def forget(tx: Tx, endpoint_id: str) -> None:
    """Delete every secret of an endpoint."""
    tx.run("DELETE FROM webhook_secret WHERE endpoint_id = :id", {"id": endpoint_id})


def forget_expired(tx: Tx) -> int:
    """Delete the secrets that have ended; how many."""
    return tx.run("DELETE FROM webhook_secret WHERE expires_at <= :now", {"now": tx.now})


def seal_anew(tx: Tx, box: Box) -> int:
    """Seal with the first of SECRET_KEY what an older one had sealed, secrets and headers, so that the older one can
    go; how many cannot be opened by any. Several processes may do it at once."""
    lost = 0
    for table, column in (("webhook_secret", "sealed"), ("webhook_endpoint", "headers")):
        rows = tx.all(
            f"SELECT id, {column} AS sealed FROM {table} WHERE {column} IS NOT NULL AND {column} NOT LIKE :current",
            {"current": f"{box.current}.%"},
        )
        for row in rows:
            try:
                sealed = box.seal(box.open(row["sealed"], row["id"]), row["id"])
            except CannotOpen:
                lost += 1
                continue
            values = {"id": row["id"], "before": row["sealed"]}
            tx.update(table, {column: sealed}, f"id = :id AND {column} = :before", values)
    return lost
