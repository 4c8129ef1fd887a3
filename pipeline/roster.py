"""Who can be asked: the providers that the settings allow, and those that are asked where a request names none;
and how much of each may be under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.admission import Bounds, provider_lane
from pipeline.config import Settings, SettingsError
from pipeline.observed import Observed
from providers.base import Catalogue, Provider
from providers.catalogue import load_catalogue
from providers.options import NotConfigured
from providers.registry import PROVIDERS, create_provider
from providers.wire import Clients

MOCK = "mock"


@dataclass(frozen=True, slots=True)
class Providers:
    """Who can be asked, by name, and for all others the settings that would be needed for it."""

    ready: dict[str, Provider]
    lacking: dict[str, tuple[str, ...]]

    @property
    def catalogues(self) -> dict[str, Catalogue]:
        """What those that can be asked can do."""
        return {name: provider.capabilities.catalogue for name, provider in self.ready.items()}


def make_providers(settings: Settings, clients: Clients) -> Providers:
    """The providers of these settings; the mock only where it is the default one. Raises SettingsError."""
    if settings.provider is None:
        raise SettingsError("PROVIDER is not set; for development `cp .env.example .env` chooses the mock")
    if settings.provider not in PROVIDERS:
        raise SettingsError(f"PROVIDER: there is none called {settings.provider!r}; known are {', '.join(PROVIDERS)}")
    made = Providers({}, {})
    for name in PROVIDERS:
        if name == MOCK and settings.provider != MOCK:
            made.lacking[name] = ("PROVIDER=mock",)
            continue
        try:
            made.ready[name] = Observed(create_provider(name, clients, settings.options_of(name)))
        except NotConfigured as error:
            made.lacking[name] = tuple(f"{name}_{option}".upper() for option in error.missing)
        except ValueError as error:
            raise SettingsError(f"{name.upper()}: {error}") from None
    return made


def make_fallback(settings: Settings) -> tuple[tuple[str, str | None], ...]:
    """Who is asked after PROVIDER: (provider, model). Raises SettingsError."""
    found = []
    for entry in settings.fallback:
        name, _, model = entry.partition(":")
        if name not in PROVIDERS:
            raise SettingsError(f"FALLBACK: there is no provider {name!r}; known are {', '.join(PROVIDERS)}")
        retired = load_catalogue(name).retired.get(model)
        if retired is not None:
            raise SettingsError(
                f"FALLBACK: {name} shut {model} down on {retired.on}; its successor is {retired.successor}"
            )
        found.append((name, model or None))
    return tuple(found)


def make_extra_allowed(settings: Settings) -> dict[str, frozenset[str]]:
    """Names that `extra` may have although `providers.reserved` lists them, by provider. Raises SettingsError."""
    allowed: dict[str, frozenset[str]] = {}
    for entry in settings.extra_allowed:
        name, _, member = entry.partition(":")
        if name not in PROVIDERS:
            raise SettingsError(f"EXTRA_ALLOWED: there is no provider {name!r}; known are {', '.join(PROVIDERS)}")
        if not member:
            raise SettingsError(f"EXTRA_ALLOWED: {entry!r} names no member: it looks like replicate:fps")
        allowed[name] = allowed.get(name, frozenset()) | {member}
    return allowed


def make_bounds(settings: Settings) -> Bounds:
    """How much of each provider may be under way. Raises SettingsError."""
    return Bounds(
        settings.max_in_flight,
        _by_lane("PROVIDER_MAX_IN_FLIGHT", settings.provider_max_in_flight),
        _by_lane("REQUESTS_PER_MINUTE", settings.requests_per_minute),
        settings.generation_timeout,
        settings.user_max_in_flight,
    )


def _by_lane(setting: str, entries: Sequence[str]) -> dict[str, int]:
    numbers = {}
    for entry in entries:
        name, _, number = entry.partition(":")
        if name not in PROVIDERS:
            raise SettingsError(f"{setting}: there is no provider {name!r}; known are {', '.join(PROVIDERS)}")
        numbers[provider_lane(name)] = int(number)
    return numbers
