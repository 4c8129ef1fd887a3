"""Checks of those we talk to besides: the provider, and ourselves from the outside."""

from __future__ import annotations

import httpx

from pipeline import __version__
from pipeline.cli.doctor.setup import is_loopback
from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.cli.mock import SERVICE
from pipeline.cli.target import local_url
from pipeline.config import Settings, SettingsError
from pipeline.outbound import Outbound
from pipeline.roster import make_providers
from providers.wire import Clients


async def provider_checks(settings: Settings, outbound: Outbound) -> list[Check]:
    """Whether a provider is chosen, has what it needs, and (the mock) answers. Nothing is paid."""
    try:
        made = make_providers(settings, Clients(outbound.submit, outbound.calls, outbound.fetch))
    except SettingsError as error:
        return [failure("provider", str(error), "set PROVIDER and what that provider needs")]
    if settings.provider != "mock":
        lacking = made.lacking.get(settings.provider or "")
        found = [ok("provider", f"{name} has its key") for name in made.ready]
        if lacking:
            needed = " and ".join(lacking)
            found.append(failure("provider", f"PROVIDER={settings.provider} lacks {needed}", f"set {needed}"))
        return found
    answer = await _look(outbound, f"{settings.mock_url.rstrip('/')}/healthz")
    at = f"MOCK_URL={settings.mock_url}"
    if isinstance(answer, httpx.Response):
        if _member(answer, "service") == SERVICE:
            return [ok("provider", f"the mock answers at {settings.mock_url}: test pictures, nothing is charged")]
        return [
            failure("provider", f"{at} is held by a program that is no mock provider", "stop it, or change MOCK_URL")
        ]
    if is_loopback(settings.mock_url):
        return [warning("provider", f"no mock answers at {at}", "`dailies serve` starts it, or `dailies mock`")]
    return [failure("provider", f"{at} does not answer: {answer}", "start `dailies mock` there, or correct MOCK_URL")]


async def public_checks(settings: Settings, outbound: Outbound) -> list[Check]:
    """Whether the service answers where its links lead. Without PUBLIC_URL: on this machine."""
    public = settings.public_url
    base = settings.base_url if public else local_url(settings)
    found = await _look(outbound, f"{base}/healthz")
    if not isinstance(found, httpx.Response):
        if public:
            mend = "start the service, or correct PUBLIC_URL, its DNS or what is in front of the service"
            return [failure("address", f"PUBLIC_URL={public} does not answer: {found}", mend)]
        return [warning("address", f"nothing answers at {base}", "start `dailies serve`")]
    return [_answered(found, f"PUBLIC_URL={public}" if public else base)]


def _answered(answer: httpx.Response, at: str) -> Check:
    if answer.is_redirect:
        target = answer.headers.get("location", "nowhere")
        return failure("address", f"{at} redirects to {target[:200]}", "set PUBLIC_URL to where it leads")
    if answer.status_code in (401, 403, 407):
        mend = "let /healthz, /callbacks/ and /api/ through: the service asks for its own keys"
        return failure("address", f"{at} answers {answer.status_code}: something in front asks for a login", mend)
    if answer.status_code in (502, 503, 504):
        mend = "start the service, or correct where the proxy in front sends requests (HOST and PORT)"
        return failure(
            "address", f"{at} answers {answer.status_code}: the proxy in front does not reach the service", mend
        )
    version = _member(answer, "version")
    if answer.status_code != 200 or _member(answer, "status") != "ok" or version is None:
        return failure(
            "address", f"{at} is answered by something else ({answer.status_code})", "correct PUBLIC_URL or PORT"
        )
    if version != __version__:
        return warning("address", f"{at} runs version {version}; this is {__version__}", "restart it with this version")
    return ok("address", f"{at} answers, version {version}")


async def _look(outbound: Outbound, url: str) -> httpx.Response | str:
    """The answer, or in words why there is none."""
    try:
        return await outbound.calls.get(url, timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__


def _member(answer: httpx.Response, name: str) -> object:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body.get(name) if isinstance(body, dict) else None
