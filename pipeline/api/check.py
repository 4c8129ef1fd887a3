"""What can be refused before anything is paid: everything at once, so that a request is mended in one go."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from urllib.parse import urlsplit

from httpx import URL, InvalidURL

from pipeline.api.offers import Finding, chain_for
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.chain import Chain
from pipeline.schemas import GenerationCreate, ImageInput, WebhookInput

_DETAILS = {
    "unknown_provider": "this service has no such provider",
    "provider_not_configured": "the provider cannot be asked with the settings of this service",
    "webhook_not_allowed": "events can only be sent to hosts that the operator allows",
    "unsupported_parameters": "the provider does not offer what was asked for",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be kept: who is asked for it, and the bytes of the pictures that came with it."""

    chain: Chain
    image: bytes | None
    last_image: bytes | None


def checked(service: Service, body: GenerationCreate) -> Checked:
    """Who is asked, and with which pictures. Raises Problem 422."""
    found = list(_webhook(body.webhook, service.webhook_hosts, service.events)) if body.webhook else []
    pictures: list[bytes | None] = []
    for name, given in (("image", body.parameters.image), ("lastImage", body.parameters.last_image)):
        try:
            pictures.append(_image(given, service.max_image_bytes))
        except ValueError as error:
            pictures.append(b"")
            found.append(Finding("invalid_request", f"/parameters/{name}/data", str(error)))
    chain, wrong = chain_for(service, body, body.video_request(*pictures))
    found += wrong
    if found or chain is None:
        raise _refusal(found)
    return Checked(chain, *pictures)


def _refusal(found: list[Finding]) -> Problem:
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


def _webhook(hook: WebhookInput, hosts: Set[str], events: Set[str]) -> Iterator[Finding]:
    try:
        host = webhook_host(hook.url)
    except ValueError as error:
        yield Finding("invalid_request", "/webhook/url", str(error))
    else:
        if not hosts & {host, f"[{host}]"}:
            detail = f"{host!r} is not in WEBHOOK_HOSTS" if hosts else "WEBHOOK_HOSTS allows no host"
            yield Finding("webhook_not_allowed", "/webhook/url", detail, sorted(hosts))
    unknown = sorted(set(hook.events or ()) - events)
    if unknown:
        yield Finding("invalid_request", "/webhook/events", f"{unknown} do not exist", sorted(events))


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
