"""Access tokens of a Google service account: a signed assertion is exchanged for one, which is kept while it lasts.

    POST {token_uri}   grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer & assertion=<JWT, RS256>
                       -> {"access_token", "expires_in": 3599, "token_type": "Bearer"}

Source: developers.google.com/identity/protocols/oauth2/service-account, and google-auth as driven on 2026-11-24: the
assertion's audience is Google's address whatever `token_uri` says.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from providers.base import ErrorCode, ProviderError
from providers.wire import Call, call_json, error_of, with_code

AUDIENCE = "https://oauth2.googleapis.com/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LIFETIME = 3600
"""Seconds that an assertion is good for: the most that Google takes."""
EARLY = 300.0
"""Seconds before its end from which a token is not used any more."""
_MEMBERS = ("client_email", "private_key", "private_key_id", "token_uri")
_BAD_GRANT = frozenset({400, 401})


@dataclass(frozen=True, slots=True)
class _Account:
    client_email: str
    private_key: str
    private_key_id: str
    token_uri: str


class ServiceAccount:
    """The account in a JSON file, which is read whenever a token is needed.

    Args:
        client: for free calls.
        path: the key file that Google Cloud makes for a service account.
        clock: Unix seconds.
    """

    def __init__(self, client: httpx.AsyncClient, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._client, self._path, self._clock = client, path, clock
        self._token, self._until = "", 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for five minutes at least. Raises ProviderError: AUTH for a file that is no key file or
        an account that is refused, TRANSIENT where Google cannot be asked."""
        async with self._lock:
            if not self._token or self._clock() >= self._until:
                self._token, lasts = await self._fetch()
                self._until = self._clock() + lasts - EARLY
            return self._token

    def forget(self, token: str) -> None:
        """A token was refused: the next one is a fresh one."""
        if token == self._token:
            self._token = ""

    async def _fetch(self) -> tuple[str, float]:
        url, assertion = await asyncio.to_thread(_assertion, self._path, int(self._clock()))
        call = Call("POST", url, urlencoded={"grant_type": GRANT, "assertion": assertion})
        try:
            answer = await call_json(self._client, call, read_error=_read_error, attempts=2, deadline=15.0)
        except ProviderError as error:
            raise error if error.code is ErrorCode.AUTH else with_code(error, ErrorCode.TRANSIENT) from error
        body = answer.document()
        token, lasts = body.get("access_token"), body.get("expires_in")
        if not (isinstance(token, str) and token.isascii() and token.isprintable() and token):
            raise ProviderError(ErrorCode.TRANSIENT, "the token endpoint gave no token")
        return token, float(lasts) if isinstance(lasts, int | float) else 0.0


def _assertion(path: Path, now: int) -> tuple[str, str]:
    """The token endpoint and what to send there. Raises ProviderError(AUTH)."""
    account = _read(path)
    claims = {"iss": account.client_email, "scope": SCOPE, "aud": AUDIENCE, "iat": now, "exp": now + LIFETIME}
    try:
        signed = jwt.encode(claims, account.private_key, "RS256", headers={"kid": account.private_key_id})
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise _no_account(f"its private_key cannot be used ({type(error).__name__})") from error
    return account.token_uri, signed


def _read(path: Path) -> _Account:
    try:
        parsed: Any = json.loads(path.read_text("utf-8"))
        members = {name: parsed[name] for name in _MEMBERS}
    except OSError as error:
        raise _no_account(f"it cannot be read ({type(error).__name__})") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _no_account(f"it is no JSON object with {', '.join(_MEMBERS)}") from error
    if not all(isinstance(value, str) and value for value in members.values()):
        raise _no_account(f"{', '.join(_MEMBERS)} must be texts")
    return _Account(**members)


def _no_account(why: str) -> ProviderError:
    """Without the file's place: who asks for a video need not know it."""
    return ProviderError(ErrorCode.AUTH, f"the service account's key file cannot be used: {why}")


def _read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """{"error": "invalid_grant", "error_description": text}: the account is refused, or Google is not well."""
    members = body if isinstance(body, dict) else {}
    told = [value for name in ("error", "error_description") if isinstance(value := members.get(name), str)]
    message = f"the token endpoint answered {status}: {': '.join(told) or 'no reason'}"
    error = error_of(status, headers, {"message": message})
    return with_code(error, ErrorCode.AUTH if status in _BAD_GRANT else ErrorCode.TRANSIENT)
