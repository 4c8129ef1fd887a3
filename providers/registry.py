"""All providers by name: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from providers.base import Provider
from providers.fal import Fal
from providers.google_omni import GoogleOmni
from providers.google_veo import GoogleVeo
from providers.luma import Luma
from providers.mock.adapter import Mock
from providers.openai_videos import OpenAIVideos
from providers.openrouter import OpenRouter
from providers.replicate import Replicate
from providers.runway import Runway
from providers.wire import Clients

Factory = Callable[[Clients, Mapping[str, str]], Provider]
"""Makes a provider from the clients and its own options (addresses, keys, modes), all texts; raises ValueError."""

PROVIDERS: Mapping[str, Factory] = MappingProxyType(
    {
        "mock": Mock.from_options,
        "google_omni": GoogleOmni.from_options,
        "google_veo": GoogleVeo.from_options,
        "fal": Fal.from_options,
        "openai_videos": OpenAIVideos.from_options,
        "openrouter": OpenRouter.from_options,
        "replicate": Replicate.from_options,
        "runway": Runway.from_options,
        "luma": Luma.from_options,
    }
)


def create_provider(name: str, clients: Clients, options: Mapping[str, str]) -> Provider:
    """The provider of that name.

    Raises:
        NotConfigured: options that it needs are not given.
        ValueError: there is none, or an option is wrong; the message is for the operator.
    """
    factory = PROVIDERS.get(name)
    if factory is None:
        raise ValueError(f"there is no provider {name!r}; known are: {', '.join(PROVIDERS)}")
    return factory(clients, options)
