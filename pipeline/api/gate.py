"""What is refused before any route sees it. Pure decisions over the scope.

Without a key, being on this machine is all that a caller has to prove, and any web page that the developer looks at can
make the browser call from this machine. A page gives itself away: by the `Host` it was loaded from when its name was
pointed at 127.0.0.1 (DNS rebinding), or by the `Origin` that browsers add to what it sends elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from pipeline.api.problems import Problem

PROBES = frozenset({"/healthz", "/readyz"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal(scope: Scope, hosts: Set[str] | None, origins: Collection[str] = ()) -> Problem | None:
    """Why a request goes no further.

    `hosts` are the names of this service, or None when a key proves who calls. Pages of `origins` (CORS_ORIGINS) are
    not foreign; `*` among them counts for nothing here, since every page of the web would be the operator.
    """
    if "\0" in scope["path"]:
        return Problem(404, "not_found", "no path holds the character U+0000")
    if b"%00" in scope["query_string"]:
        return Problem(400, "invalid_parameter", "no parameter holds the character U+0000")
    if hosts is None or scope["path"] in PROBES:
        return None
    return _foreign(scope["method"], Headers(scope=scope), hosts, origins)


def _foreign(method: str, headers: Headers, hosts: Set[str], origins: Collection[str]) -> Problem | None:
    host = _hostname("//" + headers.get("host", ""))
    if host not in hosts:
        detail = f"it is {host!r}; without any key the service answers as {', '.join(sorted(hosts))} only"
        return Problem(403, "host_not_allowed", f"{detail} (PUBLIC_URL adds a name)")
    origin = headers.get("origin")
    if origin is None or _hostname(origin) in hosts or origin in origins:
        return None
    if method in SAFE_METHODS and "*" not in origins:
        return None  # they cannot read the answer: it has no header that lets them
    may = "call here" if "*" in origins else "change anything here"
    detail = (
        f"pages of {origin[:200]!r} may not {may}: without any key only those of this machine may, and those of origins"
        " that CORS_ORIGINS names"
    )
    return Problem(403, "origin_not_allowed", detail)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
