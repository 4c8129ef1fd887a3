"""What can be refused before anything is paid: everything at once, so that a request is mended in one go."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from httpx import URL, InvalidURL

from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.schemas import GenerationCreate, ImageInput, WebhookInput
from providers.checks import check

_DETAILS = {
    "unknown_provider": "this service has no such provider",
    "provider_not_configured": "the provider cannot be asked with the settings of this service",
    "webhook_not_allowed": "events can only be sent to hosts that the operator allows",
    "unsupported_parameters": "the provider does not offer what was asked for",
}


@dataclass(frozen=True, slots=True)
class _Finding:
    code: str
    pointer: str
    detail: str
    allowed: list[Any] | None = None

    def entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"pointer": self.pointer, "detail": self.detail}
        return entry if self.allowed is None else entry | {"allowed": self.allowed}


def checked(service: Service, body: GenerationCreate) -> tuple[str, bytes | None]:
    """The provider's name and the picture's bytes. Raises Problem 422."""
    name = body.provider or service.default_provider
    found = list(_webhook(body.webhook, service.webhook_hosts, service.events)) if body.webhook else []
    image: bytes | None = None
    try:
        image = _image(body.parameters.image, service.max_image_bytes)
    except ValueError as error:
        found.append(_Finding("invalid_request", "/parameters/image/data", str(error)))
    if name in service.providers:
        offers = check(body.video_request(image), service.providers[name].capabilities)
        found += [
            _Finding("unsupported_parameters", p.pointer, p.detail, None if p.allowed is None else list(p.allowed))
            for p in offers
        ]
    else:
        found.append(_not_served(service, name))
    if found:
        raise _refusal(found)
    return name, image


def _not_served(service: Service, name: str) -> _Finding:
    known: list[Any] = sorted(service.providers)
    if name in service.lacking:
        needed = " and ".join(service.lacking[name])
        detail = f"{name!r} needs {needed} to be set by the operator of this service"
        return _Finding("provider_not_configured", "/provider", detail, known)
    return _Finding("unknown_provider", "/provider", f"{name!r} is no provider", known)


def _refusal(found: list[_Finding]) -> Problem:
    codes = {finding.code for finding in found}
    code = codes.pop() if len(codes) == 1 else "invalid_request"
    detail = _DETAILS.get(code, f"{len(found)} member(s) of the body cannot be taken")
    return Problem(422, code, detail, errors=[finding.entry() for finding in found])


def _image(given: ImageInput | None, limit: int) -> bytes | None:
    """The picture's bytes, if it was given as bytes. Raises ValueError."""
    if given is None or given.data is None:
        return None
    data = given.decode()
    if len(data) > limit:
        raise ValueError(f"has {len(data)} bytes; MAX_IMAGE_BYTES allows {limit}")
    return data


def _webhook(hook: WebhookInput, hosts: Set[str], events: Set[str]) -> Iterator[_Finding]:
    try:
        host = webhook_host(hook.url)
    except ValueError as error:
        yield _Finding("invalid_request", "/webhook/url", str(error))
    else:
        if not hosts & {host, f"[{host}]"}:
            detail = f"{host!r} is not in WEBHOOK_HOSTS" if hosts else "WEBHOOK_HOSTS allows no host"
            yield _Finding("webhook_not_allowed", "/webhook/url", detail, sorted(hosts))
    unknown = sorted(set(hook.events or ()) - events)
    if unknown:
        yield _Finding("invalid_request", "/webhook/events", f"{unknown} do not exist", sorted(events))


def webhook_host(url: str) -> str:
    """The host of a URL in lower case, without brackets. Raises ValueError where parsers could differ."""
    if not url.isascii() or "\\" in url:
        raise ValueError("holds characters that a URL may not hold: write names as xn--... and others as %..")
    try:
        parts, sent = urlsplit(url), URL(url)
        host, _ = parts.hostname or "", parts.port
    except (ValueError, InvalidURL):
        raise ValueError("is not a URL") from None
    if "@" in parts.netloc:
        raise ValueError("may not carry a user name or a password")
    if not host or sent.host != host:
        raise ValueError("has no host that can be told for sure")
    return host
