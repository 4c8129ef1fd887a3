"""What every dialect's request comes to, and how one is refused. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.base import VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import list_price, settled
from providers.mock.render import ASPECT_RATIOS, RESOLUTIONS

LONGEST = 60
USUAL_SECONDS = 8


class Refusal(Exception):
    """An answer other than success: HTTP status, our code, a sentence, further headers. A dialect puts it into its
    own envelope."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass(frozen=True, slots=True)
class Order:
    """A valid request.

    Args:
        body: what is remembered of it and shown again; `duration` (seconds), `aspect_ratio`, `resolution` and `seed`
            are what is rendered. A dialect may keep more in it. No picture's bytes.
        body_hash: of the request as it came, for idempotency.
        price_micros: what it costs, in micro-USD.
        charged_endings: failures that are charged all the same (see `providers.mock.work.FAILURES`).
    """

    prompt: str
    body: dict[str, Any]
    body_hash: str
    seed: int | None
    price_micros: int
    dialect: str = "native"
    reference: str | None = None
    callback_url: str | None = None
    charged_endings: frozenset[str] = frozenset()


def hash_of(raw: object) -> str:
    """A request's fingerprint."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def dialect_order(
    dialect: str,
    raw: object,
    asked: VideoRequest,
    *,
    shown: Mapping[str, Any],
    callback_url: str | None = None,
    reference: str | None = None,
    charged_endings: frozenset[str] = frozenset(),
) -> Order:
    """An order in a provider's dialect, at the list price of its catalogue.

    Args:
        dialect: the provider's name, as its catalogue has it.
        raw: the request as it came.
        asked: the same in common words; a length or resolution that is missing is the model's default.
        shown: what the dialect wants to find in `work.body` again.
    """
    catalogue = load_catalogue(dialect)
    whole = settled(asked, catalogue)
    body = {
        **shown,
        "model": whole.model,
        "duration": min(whole.duration or USUAL_SECONDS, LONGEST),
        "aspect_ratio": whole.aspect_ratio if whole.aspect_ratio in ASPECT_RATIOS else "16:9",
        "resolution": whole.resolution if whole.resolution in RESOLUTIONS else "360p",
        "seed": whole.seed,
    }
    return Order(
        prompt=whole.prompt,
        body=body,
        body_hash=hash_of(raw),
        seed=whole.seed,
        price_micros=list_price(asked, catalogue),
        dialect=dialect,
        reference=reference,
        callback_url=callback_url,
        charged_endings=charged_endings,
    )
