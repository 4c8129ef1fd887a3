"""What a failing answer to a webhook means and what to do about it, by its status, its headers and its first bytes.

Pure. What gateways and hosts say of themselves was read from their documents and answers, 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from webhooks.wire import Headers

_BY_STATUS: Mapping[int, str] = {
    300: "the receiver offers a choice; register the receiver's final URL",
    304: "the receiver answered as if nothing had changed, which is for GET; answer 2xx",
    400: "the receiver found the request bad; look at its log and at the answer below",
    401: "the receiver refused it: a wrong webhook secret (see `dailies verify`), or a login in front of the route",
    403: "something in front of the route refused it (firewall, deployment protection); let the webhook path through",
    404: "nothing is at this path; check the URL and that the route is deployed",
    405: "the path exists but takes no POST; check the URL, or export a POST handler",
    408: "the receiver gave up waiting; answer first and do the work afterwards",
    410: "the receiver says it is gone for good; the endpoint is disabled",
    413: "the receiver's body limit is below this event's size; raise the limit",
    415: "the receiver does not take application/json; read the raw body in the handler",
    421: "the receiver's server does not serve this host name; check the URL and its proxy's settings",
    422: "the receiver found the body bad; it should ignore members and types that it does not know",
    426: "the receiver wants another protocol; check the URL",
    429: "the receiver asks us to slow down",
    431: "our headers are too large for the receiver; take custom headers away, or raise its limit",
    500: "the receiver's handler failed; look at its log",
    501: "the receiver's server does not know POST; check the URL",
    502: "the gateway in front of the receiver could not reach it",
    503: "the receiver is not available at the moment",
    504: "the receiver's gateway ran out of patience; answer first and do the work afterwards",
    520: "Cloudflare got an answer that it could not read from the receiver; look at the receiver's log",
    521: "Cloudflare cannot reach the receiver: its server is down or refuses Cloudflare",
    522: "Cloudflare got no connection to the receiver in time; check its firewall and that it runs",
    523: "Cloudflare finds no way to the receiver; check the DNS records of its origin",
    524: "the receiver took too long for Cloudflare; answer first and do the work afterwards",
    525: "Cloudflare's TLS handshake with the receiver failed; check the receiver's certificate",
    526: "Cloudflare does not accept the receiver's certificate; renew it",
    530: "Cloudflare cannot find the receiver's origin; check that its tunnel runs",
}
_ANY = "not a 2xx, so not delivered; answer 2xx once the event is stored"
_NONE = "HTTP has no such status; the receiver has to answer 2xx"

_TO_TLS = re.compile(rb"plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server", re.IGNORECASE)
_PAGE = re.compile(rb"\s*<(!doctype html|html|head|script)", re.IGNORECASE)
_CHALLENGE = re.compile(rb"just a moment|cf-challenge|challenge-platform|captcha", re.IGNORECASE)
_LOGIN = re.compile(rb"log ?in|sign ?in|authenticat|sso|protection", re.IGNORECASE)
_SIGNATURE = re.compile(rb"signature|webhook-|svix-|timestamp", re.IGNORECASE)


def hint(status: int, headers: Headers, body: bytes) -> str:
    """One clause about a status that is neither 2xx nor a redirect. `body` is the answer's first bytes, raw."""
    return (
        _by_answer(status, dict(headers), body) or _BY_STATUS.get(status) or (_ANY if 100 <= status <= 599 else _NONE)
    )


def _by_answer(status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    """What the answer itself gives away."""
    if "ngrok-error-code" in headers:
        return f"ngrok answered for the receiver ({headers['ngrok-error-code'][:40]}): start the tunnel, check its URL"
    if status == 400 and _TO_TLS.search(body):
        return "the port speaks TLS; register the URL with https://"
    if status in {401, 403, 429, 503} and (
        "cf-mitigated" in headers or (_PAGE.match(body) and _CHALLENGE.search(body))
    ):
        return "a check for browsers stands in front of the route; let the webhook path through without it"
    if status in {401, 403} and (_PAGE.match(body) or "www-authenticate" in headers):
        login = "a page to log in" if _LOGIN.search(body) or status == 401 else "a page"
        return f"{login} answered instead of the route (deployment protection, a proxy); let the webhook path through"
    if status in {400, 401, 403} and _SIGNATURE.search(body):
        return (
            "the receiver found the signature wrong: give it this secret and the raw body; `dailies verify` finds out"
        )
    return None
