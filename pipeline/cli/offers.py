"""`models` and `estimate`: what can be asked of whom, and what a request would cost. The texts are pure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.cli.base import CommandError
from pipeline.cli.client import PATH, Client
from pipeline.cli.tables import table
from pipeline.cli.words import dollars, json_text, ranges, span_text

Json = Mapping[str, Any]
MODELS = "/api/models"


async def models_text(client: Client, provider: str | None, *, as_json: bool) -> str:
    """The models of all providers or of one. Raises CommandError."""
    offers = await client.get(MODELS)
    if provider is not None:
        known = [each["name"] for each in offers["data"]]
        if provider not in known:
            raise CommandError(f"there is no provider {provider!r}; known are {', '.join(known)}")
        offers = {**offers, "data": [each for each in offers["data"] if each["name"] == provider]}
    return json_text(offers) if as_json else offers_table(offers, shutil.get_terminal_size((120, 24)).columns)


def offers_table(offers: Json, width: int | None = None) -> str:
    """A line for each model, then what a provider lacks and what was shut down. The default ones carry a star."""
    rows = [_model(provider, model) for provider in offers["data"] for model in provider["models"]]
    head = ("PROVIDER", "MODEL", "SECONDS", "RESOLUTIONS", "USD/SECOND", "TAKES", "ALSO TAKES")
    return "\n".join([table(head, rows, width), *_notes(offers)])


def _model(provider: Json, model: Json) -> tuple[object, ...]:
    also = [word for name, word in _SWITCHES.items() if model[name]]
    also += ["audio"] if model["audio"] == "optional" else []
    prices = [f"{price / 1_000_000:g}" for price in dict.fromkeys(model["prices"].values())]
    pictures = f" +{model['perImage'] / 1_000_000:g}/picture" if model["perImage"] else ""
    return (
        provider["name"] + ("*" if provider["default"] else "" if provider["ready"] else " (not ready)"),
        model["id"] + ("*" if model["default"] else ""),
        ranges(model["durations"]) or None,
        ", ".join(model["resolutions"]) or None,
        " to ".join(sorted({prices[0], prices[-1]}, key=float)) + pictures if prices else None,
        span_text(model["typicalSeconds"]),
        ", ".join(also) or None,
    )


_SWITCHES = {
    "imageData": "image",
    "lastImage": "last image",
    "seed": "seed",
    "negativePrompt": "negative prompt",
}


def _notes(offers: Json) -> Iterator[str]:
    for provider in offers["data"]:
        if provider["needs"]:
            yield f"{provider['name']} needs {' and '.join(provider['needs'])}"
        for gone in provider["retired"]:
            yield f"{provider['name']}: {gone['id']} was shut down on {gone['on']}; ask for {gone['successor']}"
    if offers["fallback"]:
        names = ", ".join(f"{each['provider']}:{each['model']}".removesuffix(":None") for each in offers["fallback"])
        yield f"asked next by default: {names}"


async def estimate_text(client: Client, body: Json, *, as_json: bool) -> str:
    """What a request would cost and take. Raises CommandError for what would be refused."""
    found = await client.post(f"{PATH}/estimate", body)
    return json_text(found) if as_json else estimate_table(found)


def estimate_table(found: Json) -> str:
    """A line for each provider that would be asked, then what a person should know."""
    rows = [
        (
            each["provider"],
            each["model"],
            each["parameters"].get("duration"),
            each["parameters"].get("resolution"),
            dollars(each["estimatedCostMicros"]),
            span_text(each["expectedSeconds"]["p50"]),
            span_text(each["expectedSeconds"]["p90"]),
            _basis(each["expectedSeconds"]),
        )
        for each in found["candidates"]
    ]
    head = ("PROVIDER", "MODEL", "SECONDS", "RESOLUTION", "COST", "TAKES ABOUT", "OR UP TO", "AS TOLD BY")
    notes = [f"warning: {warning}" for each in found["candidates"] for warning in each["warnings"]]
    notes += [f"{each['provider']} is left out: {each['reason']}" for each in found["leftOut"]]
    notes += [f"no money for it today: {found['spendCap']['detail']}"] if found["spendCap"] else []
    return "\n".join([table(head, rows), *notes])


def _basis(expected: Json) -> str:
    return f"the last {expected['samples']}" if expected["basis"] == "history" else "the catalogue"
