"""The tables of docs/providers.md: what the adapters declare and what their catalogues hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from pipeline.config import Settings
from providers.base import Capabilities, Catalogue, Model, Recovery, Signed
from providers.catalogue import load_catalogue
from providers.registry import PROVIDERS, create_provider
from providers.wire import Clients

REAL = tuple(name for name in PROVIDERS if name != "mock")
OVERVIEW = (
    *("provider", "models", "seconds", "resolutions", "pictures", "sound", "cancel", "callbacks"),
    *("a lost answer", "USD a second", "as of"),
)
OF_A_MODEL = ("model", "seconds (usual)", "USD a second", "shapes", "pictures", "sound", "seed", "negative prompt")
SECRET = f"whsec_{'A' * 24}"  # no secret: it makes the adapters declare what they can do with one


def overview() -> Iterable[list[str]]:
    """A row for each provider, the mock last."""
    return (_overview(name, capabilities_of(name)) for name in (*REAL, "mock"))


def models(name: str) -> Iterable[list[str]]:
    """A row for each model of a provider, its default first."""
    catalogue = load_catalogue(name)
    ordered = sorted(catalogue.models.values(), key=lambda model: model.id != catalogue.default_model)
    return (_model(model) for model in ordered)


def told_of(name: str) -> str:
    """Where the figures are from, and which models are gone."""
    catalogue = load_catalogue(name)
    gone = [f"`{old}` ({each.on}; ask for `{each.successor}`)" for old, each in catalogue.retired.items()]
    path = f"providers/catalogues/{name}.toml"
    told = f"As of {catalogue.date}, from [`{path}`](../{path}); the first model is the default."
    return f"\n{told}" + (f" Shut down: {', '.join(gone)}." if gone else "") + "\n"


@cache
def capabilities_of(name: str) -> Capabilities:
    """What a provider can do, with every setting given that it might want."""
    wanted: dict[str, Any] = {f"{each}_api_key": "id:secret" for each in REAL if each != "google_veo"}
    wanted |= {f"{each}_webhook_secret": SECRET for each in ("google_omni", "replicate", "openrouter")}
    wanted |= {"google_veo_project": "project", "google_veo_credentials": Path("account.json")}
    settings = Settings(_env_file=None, openai_videos_url="https://gateway.example/v1", **wanted)
    nobody = httpx.AsyncClient()
    return create_provider(name, Clients(nobody, nobody, nobody), settings.options_of(name)).capabilities


def seconds(durations: Sequence[int]) -> str:
    """Lengths as people write them: runs of three and more by their ends. Pure."""
    runs: list[list[int]] = []
    for each in sorted(durations):
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts)


def price(micros: int) -> str:
    """Micro-USD as USD, with two digits behind the point at least. Pure."""
    usd = (Decimal(micros) / 1_000_000).normalize()
    return f"{usd:.2f}" if usd == round(usd, 2) else f"{usd:f}"


def _overview(name: str, can: Capabilities) -> list[str]:
    models = list(can.catalogue.models.values())
    prices = [each for model in models for each in model.prices.values()]
    return [
        f"[`{name}`](#{name})" if name in REAL else f"`{name}`",
        f"{len(models)}; `{can.catalogue.default_model}`",
        seconds(sorted({length for model in models for length in model.durations})),
        ", ".join(_sizes(can.catalogue)),
        _pictures(models),
        _either(model.audio for model in models),
        "yes" if can.cancel else "no",
        {Signed.NONE: "no", Signed.TOKEN: "by token", Signed.SIGNED: "signed"}[can.callbacks],
        _recovery(can.recovery),
        "-".join(dict.fromkeys((price(min(prices)), price(max(prices))))),
        can.catalogue.date,
    ]


def _sizes(catalogue: Catalogue) -> list[str]:
    """Resolutions from small to large."""
    found = {size for model in catalogue.models.values() for size in model.resolutions}
    return sorted(found, key=lambda size: int(size[:-1]) * (1000 if size.endswith("k") else 1))


def _pictures(models: Sequence[Model]) -> str:
    """How a first picture can be given to some model, and whether a last one can."""
    ways = [("address", "image_url"), ("bytes", "image_data"), ("last one too", "last_image")]
    return ", ".join(word for word, member in ways if any(getattr(model, member) for model in models)) or "none"


def _either(words: Iterable[str]) -> str:
    return ", ".join(sorted({{"optional": "as asked"}.get(word, word) for word in map(str, words)}))


def _recovery(recovery: Recovery) -> str:
    """How a lost answer is cleared up, in the order in which it is tried."""
    ways = [
        (recovery.idempotency_seconds, "sent again under its key"),
        (recovery.lookup_quiet_seconds, "looked up"),
        (recovery.callback_seconds, "its callback, for {:g} h"),
    ]
    return ", ".join(words.format(limit / 3600) for limit, words in ways if limit) or "`ON_UNKNOWN_SUBMIT`"


def _model(model: Model) -> list[str]:
    usual = f" ({model.default_duration})" if model.default_duration else ""
    first = sorted(model.resolutions, key=lambda size: size != model.default_resolution)
    costs = [f"{size} {price(model.prices.get(size, model.prices.get('*', 0)))}" for size in first]
    costs += [f"and {price(model.per_image)} a picture"] if model.per_image else []
    return [
        f"`{model.id}`",
        f"{seconds(model.durations)}{usual}",
        ", ".join(costs),
        ", ".join(model.aspect_ratios) or "as the picture",
        _pictures([model]) + (" (needed)" if model.needs_image else ""),
        _either([model.audio]),
        "yes" if model.seed else "no",
        "yes" if model.negative_prompt else "no",
    ]
