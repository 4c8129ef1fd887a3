"""Operations that tell before anything is paid: what can be asked of whom, and what a request would cost."""

from __future__ import annotations

from pipeline.api.openapi.common import BODY
from pipeline.api.openapi.generations import TAG as GENERATIONS
from pipeline.api.openapi.parts import Operation, Reply, json_of
from pipeline.api.openapi.service import PROVIDERS
from pipeline.credentials import Scope
from pipeline.schemas.offers import Estimate, Offers
from pipeline.schemas.requests import GenerationCreate

ESTIMATE = Operation(
    "estimateGeneration",
    "POST",
    "/api/generations/estimate",
    GENERATIONS,
    "What a request would cost and take",
    scope=Scope.SUBMIT,
    description=(
        "The body of a request for one video. Nothing is stored and no provider is asked; what a real request would be"
        " refused for is refused here, too."
    ),
    body=GenerationCreate,
    example={"prompt": "a red fox in the snow", "parameters": {"duration": 8}, "fallback": [{"provider": "runway"}]},
    replies={200: Reply("Each provider that would be asked, in order.", json_of(Estimate))},
    problems=(
        *BODY,
        "unsupported_parameters",
        "unknown_provider",
        "provider_not_configured",
        "webhook_not_allowed",
    ),
)

MODELS = Operation(
    "listModels",
    "GET",
    "/api/models",
    PROVIDERS,
    "What can be asked of whom, and what it costs",
    {200: Reply("Every provider that this version knows, those that can be asked first.", json_of(Offers))},
    scope=Scope.READ,
    description="From dated catalogues. A model that is not listed is passed on as it is, with a warning.",
)

OPERATIONS = (ESTIMATE, MODELS)
