"""Checks of the webhook's target: a signed test event is sent as real ones are, and the answer explained."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.config import Settings
from pipeline.ids import new_id
from pipeline.links import Links
from pipeline.outbound import Outbound
from pipeline.outbox.sample import sample_event
from pipeline.safety import Secrets, webhook_is_blocked
from webhooks.sender import Delivered, Reason, SendResult, build_headers, judge, send
from webhooks.signing import new_secret

SLOW_SHARE = 0.5
"""Part of WEBHOOK_TIMEOUT beyond which an answer to a test is slow."""
_LOGIN = re.compile(rb"<html|<!doctype|sso|log ?in|authenticat", re.IGNORECASE)

_BY_REASON = {
    Reason.BAD_URL: "correct WEBHOOK_URL: it looks like https://app.example/api/webhooks/worker",
    Reason.BLOCKED_ADDRESS: "add the receiver's network to ALLOWED_NETWORKS, or take a public https address",
    Reason.DNS: "correct the host in WEBHOOK_URL, or its DNS records",
    Reason.REFUSED: "start the receiver (`dailies receive` for development), or correct the port in WEBHOOK_URL",
    Reason.UNREACHABLE: "mend the network between this machine and the receiver",
    Reason.CONNECT_TIMEOUT: "let this machine through the receiver's firewall",
    Reason.TLS: "mend the receiver's certificate, or correct WEBHOOK_URL (http or https, host name)",
    Reason.TIMEOUT: "let the receiver answer at once and work afterwards, or raise WEBHOOK_TIMEOUT",
    Reason.RESET: "look at the receiver's log",
    Reason.BAD_HTTP: "correct the port in WEBHOOK_URL, and http or https",
}
_BY_STATUS = {
    404: "deploy the route, or correct the path of WEBHOOK_URL (a handler that looks the generation up must answer 2xx"
    " to `webhook.test`)",
    405: "let the route take POST, or correct the path of WEBHOOK_URL",
    410: "let the receiver answer 2xx again: 410 switches the endpoint off",
    413: "raise the receiver's limit for bodies",
    429: "let the receiver take more",
}
SIGNATURE_MEND = (
    "give the receiver the very WEBHOOK_SECRET of this service (unset here: the one in DATA_DIR/secrets),"
    " and let it verify the raw bytes of the body"
)
LOGIN_MEND = (
    "let requests to the webhook's path through whatever asks for a login there (such as deployment protection)"
)


async def webhook_checks(
    settings: Settings, secrets: Secrets, outbound: Outbound, now: Callable[[], float]
) -> list[Check]:
    """Send a good event and, if that is taken, one with a wrong signature, which has to be refused."""
    url = settings.webhook_url
    if url is None:
        return [
            warning(
                "webhook", "WEBHOOK_URL is not set: no event is sent anywhere", "set WEBHOOK_URL to your app's route"
            )
        ]
    if webhook_is_blocked(settings):
        mend = "set ALLOWED_NETWORKS=127.0.0.0/8,::1/128 for development"
        return [failure("webhook", f"{url} is on this machine, and ALLOWED_NETWORKS does not allow that", mend)]
    links = Links(settings.base_url, settings.r2_public_url, secrets.signing, settings.link_lifetime)
    body = sample_event(links, now())
    result = await _send(settings, secrets.webhook, outbound, now, body)
    found = [judged(url, result, settings.webhook_timeout)]
    if judge(result) == Delivered():
        forged = await _send(settings, (new_secret(os.urandom),), outbound, now, body)
        if judge(forged) == Delivered():
            mend = "verify the signature in the receiver before believing anything (README, The webhook)"
            found.append(failure("webhook", f"{url} takes an event with a wrong signature: anyone can lie to it", mend))
    return found


async def _send(
    settings: Settings, secrets: tuple[str, ...], outbound: Outbound, now: Callable[[], float], body: bytes
) -> SendResult:
    event = new_id("evt", int(now() * 1000))
    headers = build_headers(secrets, event_id=event, timestamp=int(now()), body=body, attempt=1)
    url = settings.webhook_url or ""
    return await send(outbound.webhooks, url, headers=headers, body=body, timeout=settings.webhook_timeout, now=now)


def judged(url: str, result: SendResult, timeout: float) -> Check:
    """What the answer to the good event means. `timeout` is WEBHOOK_TIMEOUT. Pure."""
    if judge(result) != Delivered():
        return failure("webhook", f"{url}: {result.detail}", mend_of(result))
    took = result.ms / 1000
    if took > timeout * SLOW_SHARE:
        mend = "let the receiver answer at once and work afterwards"
        return warning("webhook", f"{url} took {took:.1f} s of WEBHOOK_TIMEOUT={timeout:g} to answer a test", mend)
    return ok("webhook", f"{url} took a signed test event ({result.status}, {result.ms} ms)")


def mend_of(result: SendResult) -> str:
    """What to do about an attempt that was not delivered. Pure."""
    status = result.status
    if status is None:
        return _BY_REASON.get(result.reason, "look at the receiver's log")
    if status in (401, 403):
        return LOGIN_MEND if status == 403 or _LOGIN.search(result.response) else SIGNATURE_MEND
    if status == 400:
        return SIGNATURE_MEND
    if 300 <= status <= 399:
        return "set WEBHOOK_URL to the address that it redirects to"
    if status >= 500:
        return _BY_STATUS.get(status, "look at the receiver's log: its handler fails")
    return _BY_STATUS.get(status, "let the receiver answer 2xx once it has stored the event")
