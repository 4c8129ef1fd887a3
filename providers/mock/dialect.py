"""A dialect: how one provider's wire is spoken by the mock. What happens behind it is the same for all (`Studio`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from providers.mock.order import Refusal
from providers.mock.studio import Studio
from providers.mock.work import Work


@dataclass(frozen=True, slots=True)
class Ring:
    """One callback, ready to be posted: its body's very bytes, and its headers with the signature if there is one."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One provider's wire.

    Args:
        name: the provider's; its addresses begin with `/{name}`.
        routes: its addresses, without that beginning; handlers may raise Refusal and Broken.
        refuse: a refusal in its error envelope.
        ring: (studio, work, event) -> the callback; `event` is `early`, `ended`, or what a fault adds.
    """

    name: str
    routes: Callable[[Studio], Sequence[BaseRoute]]
    refuse: Callable[[Request, Refusal], Response]
    ring: Callable[[Studio, Work, str], Ring]


def silent(_studio: Studio, work: Work, _event: str) -> Ring:
    """The `ring` of a provider that offers no callbacks: never asked, since no order has a `callback_url`."""
    raise LookupError(f"{work.dialect} rings nobody")
