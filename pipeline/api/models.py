"""`GET /api/models`: what can be asked of whom, and what it costs, as the catalogues of this version say."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.api.auth import require, service_of
from pipeline.api.query import once
from pipeline.api.service import Service
from pipeline.credentials import Scope
from providers.base import Catalogue, Model
from providers.catalogue import load_catalogue


async def models(request: Request) -> Response:
    """200 with every provider that this version knows, those that can be asked first."""
    await require(request, Scope.READ)
    once(request, frozenset())
    service = service_of(request)
    names = [*sorted(service.providers), *sorted(service.lacking)]
    data = [_provider(service, name) for name in names]
    fallback = [{"provider": name, "model": model} for name, model in service.fallback]
    return JSONResponse({"object": "list", "data": data, "fallback": fallback})


def _provider(service: Service, name: str) -> dict[str, Any]:
    provider = service.providers.get(name)
    can = provider.capabilities if provider else None
    catalogue = can.catalogue if can else load_catalogue(name)
    retired = catalogue.retired.items()
    return {
        "name": name,
        "default": name == service.default_provider,
        "ready": can is not None,
        "needs": list(service.lacking.get(name, ())),
        "catalogueDate": catalogue.date,
        "playMoney": catalogue.play_money,
        "cancel": can.cancel if can else None,
        "callbacks": can.callbacks if can else None,
        "models": [_model(model, catalogue) for model in catalogue.models.values()],
        "retired": [{"id": gone, "on": entry.on, "successor": entry.successor} for gone, entry in retired],
    }


def _model(model: Model, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "id": model.id,
        "default": model.id == catalogue.default_model,
        "durations": list(model.durations),
        "resolutions": list(model.resolutions),
        "aspectRatios": list(model.aspect_ratios),
        "defaultDuration": model.default_duration,
        "defaultResolution": model.default_resolution,
        "maxPrompt": model.max_prompt,
        "seed": model.seed,
        "audio": model.audio,
        "negativePrompt": model.negative_prompt,
        "imageUrl": model.image_url,
        "imageData": model.image_data,
        "lastImage": model.last_image,
        "needsImage": model.needs_image,
        "prices": dict(model.prices),
        "perImage": model.per_image,
        "typicalSeconds": float(model.typical_seconds),
    }
