"""Who is asked for a generation: one provider after the other, each with its model, its `extra` and its price. Pure.

Every candidate is settled when the request comes in: its model is named, and the length and the price follow from the
catalogue of that moment. `generation.chain` lists them all where there are several; the row's own `provider`, `model`,
`extra`, `duration` and `estimate_micros` are those of the one whose turn it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.db import Row
from pipeline.schemas import video_request
from providers.base import Catalogue, VideoRequest
from providers.checks import list_price, settled, unknown_model


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that may be asked.

    Args:
        request: what is asked of it, the catalogue's defaults filled in.
        estimate_micros: the list price in micro-USD; never less than what it may cost.
        warning: what a person should know, if there is something.
    """

    provider: str
    request: VideoRequest
    estimate_micros: int
    warning: str | None = None

    @property
    def model(self) -> str | None:
        """Its model; None only where the catalogue names none."""
        return self.request.model


@dataclass(frozen=True, slots=True)
class Chain:
    """All candidates in their order, at least one.

    Args:
        left_out: providers that were asked for, or are asked by default, and cannot be, each with the reason.
    """

    candidates: Sequence[Candidate]
    left_out: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @property
    def first(self) -> Candidate:
        """The one that is asked first."""
        return self.candidates[0]

    @property
    def has_fallback(self) -> bool:
        """Whether another one could be asked instead of the first."""
        return len(self.candidates) > 1

    @property
    def warnings(self) -> list[str]:
        """What a person should know of any of them."""
        return [each.warning for each in self.candidates if each.warning is not None]


@dataclass(frozen=True, slots=True)
class Named:
    """A candidate as the row keeps it; `model` is settled, `extra` as it was asked."""

    provider: str
    model: str | None
    extra: Mapping[str, Any]


def settle(asked: VideoRequest, provider: str, catalogue: Catalogue) -> Candidate:
    """A candidate of a request that names its model, or none, in the provider's own words."""
    request = settled(asked, catalogue)
    return Candidate(provider, request, list_price(request, catalogue), unknown_model(asked, catalogue))


def columns(chain: Chain) -> dict[str, object]:
    """The columns of a new generation that its chain fills."""
    named = [{"provider": each.provider, "model": each.model, "extra": each.request.extra} for each in chain.candidates]
    warnings = chain.warnings
    return _of(chain.first, 0) | {
        "chain": json.dumps(named) if chain.has_fallback else "[]",
        "warnings": json.dumps(warnings) if warnings else None,
    }


def chain_of(row: Row) -> list[Named]:
    """All candidates of a stored generation, in their order."""
    stored = json.loads(row["chain"])
    if not stored:
        return [Named(row["provider"], row["model"], json.loads(row["extra"]))]
    return [Named(each["provider"], each["model"], each["extra"]) for each in stored]


def has_fallback(row: Row) -> bool:
    """Whether another candidate comes behind the one whose turn it is."""
    return bool(row["candidate"] + 1 < len(chain_of(row)))


def take(row: Row, index: int, catalogue: Catalogue) -> dict[str, object]:
    """The columns of a generation once the candidate at `index`, whose provider has this catalogue, is to be asked."""
    named = chain_of(row)[index]
    asked = replace(video_request(row), model=named.model, extra=named.extra)
    return _of(settle(asked, named.provider, catalogue), index)


def of_submission(row: Row, submission: Row) -> dict[str, object]:
    """The columns by which a generation goes on with the work of one of its submissions: those of the candidate that
    has it. None where that is the one whose turn it is."""
    provider, model = submission["provider"], submission["model"]
    if (provider, model) == (row["provider"], row["model"]):
        return {}
    found = {"provider": provider, "model": model, "estimate_micros": submission["estimate_micros"]}
    places = [(index, named) for index, named in enumerate(chain_of(row)) if named.provider == provider]
    exact = [each for each in places if each[1].model == model]
    for index, named in (exact or places)[:1]:
        found |= {"candidate": index, "extra": json.dumps(dict(named.extra))}
    return found


def _of(candidate: Candidate, index: int) -> dict[str, object]:
    return {
        "provider": candidate.provider,
        "model": candidate.model,
        "extra": json.dumps(candidate.request.extra),
        "duration": candidate.request.duration,
        "estimate_micros": candidate.estimate_micros,
        "candidate": index,
    }
