"""What can be asked of whom, and what a request would cost, as models; see `responses`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.schemas.responses import Answer, Count, ShownFallback, ShownParameters, Time

Money = Annotated[int, Field(ge=0, description="micro-USD")]


class RetiredModel(Answer):
    """A model that its provider has shut down: it is refused."""

    id: str
    on: Annotated[str, Field(description="since when")]
    successor: str


class OfferedModel(Answer):
    """What a model can be asked for. Empty lists: nothing of the kind can be chosen."""

    id: str
    default: Annotated[bool, Field(description="meant where a request names no model")]
    durations: Annotated[list[int], Field(description="seconds")]
    resolutions: list[str]
    aspect_ratios: list[str]
    default_duration: int | None
    default_resolution: str | None
    max_prompt: Annotated[int, Field(description="characters")]
    seed: bool
    audio: Literal["never", "always", "optional"]
    negative_prompt: bool
    image_url: Annotated[bool, Field(description="whether a picture may be given by its address")]
    image_data: Annotated[bool, Field(description="whether a picture may be given as bytes")]
    last_image: bool
    needs_image: bool
    prices: Annotated[
        dict[str, Money], Field(description="list price of a second of video by resolution; `*` is for all others")
    ]
    per_image: Annotated[Money, Field(description="what each input picture costs beside that")]
    typical_seconds: Annotated[float, Field(description="how long a generation usually takes, as the catalogue says")]


class OfferedProvider(Answer):
    """A provider, whether it can be asked here, and what it offers as of a date."""

    name: str
    default: Annotated[bool, Field(description="asked where a request names none")]
    ready: bool
    needs: Annotated[list[str], Field(description="settings that the operator would have to make first")]
    catalogue_date: Annotated[str, Field(description="when its facts were gathered")]
    play_money: Annotated[bool, Field(description="nothing real is ever charged")]
    cancel: Annotated[bool | None, Field(description="can it be asked to stop? null unless `ready`")]
    callbacks: Annotated[
        Literal["none", "token", "signed"] | None,
        Field(description="how it rings when it is done; null unless `ready`"),
    ]
    models: list[OfferedModel]
    retired: list[RetiredModel]


class Offers(Answer):
    """Every provider that this version knows, and who is asked next where a request says nothing."""

    object: Literal["list"]
    data: list[OfferedProvider]
    fallback: list[ShownFallback]


class ExpectedSeconds(Answer):
    """From the acceptance to the finished video: from our own history, or from the catalogue while that is short."""

    p50: float
    p90: float
    samples: Annotated[Count, Field(description="finished ones that were looked at")]
    basis: Literal["history", "catalogue"]


class EstimatedCandidate(Answer):
    """One provider that would be asked, and what it would be asked for: the defaults of its catalogue filled in."""

    provider: str
    model: str | None
    parameters: ShownParameters
    estimated_cost_micros: Money
    estimated_cost_usd: Annotated[str, Field(examples=["0.40"])]
    expected_seconds: ExpectedSeconds
    warnings: list[str]


class LeftOut(Answer):
    """A provider that is not configured, or that only FALLBACK names and that cannot do this."""

    provider: str
    reason: str


class SpendCap(Answer):
    """Why a real request would be answered 402 `spend_cap` just now."""

    detail: str
    scope: Literal["user", "tenant", "provider", "service"]
    limit_micros: Annotated[Money | None, Field(description="absent where it is not the caller's to know")] = None
    left_micros: Annotated[Money | None, Field(description="likewise")] = None
    estimated_cost_micros: Money
    resets_at: Annotated[Time | None, Field(description="absent where it costs more than a whole day's cap")] = None


class Estimate(Answer):
    """What a request would cost and take. Nothing was stored or submitted."""

    object: Literal["estimate"]
    candidates: Annotated[list[EstimatedCandidate], Field(description="in the order in which they would be asked")]
    spend_cap: Annotated[SpendCap | None, Field(description="null: there is money for it today")]
    left_out: list[LeftOut]
