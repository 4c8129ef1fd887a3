"""The service's HTTP API as a client sees it: repeats what may be repeated, and says in words what was refused."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.cli.base import CommandError, Unreachable
from pipeline.cli.words import problem_text

Answer = dict[str, Any]

PATH = "/api/generations"
DELIVERIES = "/api/webhooks/deliveries"
DEAD = "/api/queue/dead"
PAGE = 100
"""Entries that are asked for at a time; the service gives no more."""

REPEATABLE = frozenset({429, 502, 503, 504})
"""Answers that say `later`; so does every problem with `"retryable": true`, such as 409 request_in_progress."""

_BACKOFF = wait_random_exponential(multiplier=0.25, max=4)


class _Again(Exception):
    """The same request may be sent again, `after` seconds at the soonest."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Client:
    """The API at `url`.

    Args:
        http: sends requests; its timeout bounds each.
        key: an API key, and in `key_from` where it came from, for people.
        patience: seconds for which an answer is sought before Unreachable is raised.
        on_wait: told the reason when a request has to be repeated.

    Every method raises CommandError for what the service refused.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        *,
        key: str | None = None,
        key_from: str | None = None,
        patience: float = 30.0,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = http
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._key_from = key_from if key else None
        self._patience = patience
        self._on_wait = on_wait

    async def create(self, body: dict[str, Any], idempotency_key: str) -> Answer:
        """Ask for a generation, as often as it takes: the key keeps it from being taken twice."""
        return await self._ask("POST", PATH, self._patience, body=body, key=idempotency_key)

    async def generation(self, reference: str, *, patience: float | None = None) -> Answer:
        """A generation as it stands, by either of its ids."""
        return await self._ask("GET", path_of(reference), patience or self._patience)

    async def timeline(self, reference: str) -> Answer:
        """What happened to it so far, and its deliveries."""
        return await self._ask("GET", f"{path_of(reference)}/events", self._patience)

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        """Read; members of `query` that are None are left out."""
        return await self._ask("GET", path + _query(query), self._patience)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, *, once: bool = False) -> Answer:
        """Do; with `once` never a second time unless the first surely did not arrive."""
        return await self._ask("POST", path, self._patience, body=None if body is None else dict(body), once=once)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Change."""
        return await self._ask("PATCH", path, self._patience, body=dict(body))

    async def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Set as a whole."""
        return await self._ask("PUT", path, self._patience, body=dict(body))

    async def delete(self, path: str) -> Answer:
        """Remove."""
        return await self._ask("DELETE", path, self._patience)

    async def pages(self, path: str, query: Mapping[str, Any], most: int | None) -> Answer:
        """A list of up to `most` entries (None: all), read page by page."""
        found: list[Any] = []
        page: Answer = {}
        cursor = query.get("after")
        while most is None or len(found) < most:
            size = PAGE if most is None else min(PAGE, most - len(found))
            page = await self.get(path, {**query, "limit": size, "after": cursor})
            found += page["data"]
            cursor = page.get("nextCursor")
            if not page.get("hasMore") or cursor is None:
                break
        return {**page, "data": found}

    @asynccontextmanager
    async def stream(self, path: str, *, last_id: str | None, silence: float) -> AsyncIterator[httpx.Response]:
        """The open answer of a GET for server-sent events, whatever it is. Raises httpx.HTTPError.

        `silence` is how many seconds may pass without a byte; `last_id` the id of the last event that was seen.
        """
        headers = self._headers | {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        limits = httpx.Timeout(10.0, read=silence)
        async with self._http.stream("GET", self.url + path, headers=headers, timeout=limits) as response:
            yield response

    async def _ask(
        self,
        method: str,
        path: str,
        patience: float,
        *,
        body: dict[str, Any] | None = None,
        key: str | None = None,
        once: bool = False,
    ) -> Answer:
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_delay(patience),
                wait=lambda state: _wait(state, patience),
                retry=retry_if_exception_type(_Again),
                before_sleep=self._before_sleep,
                reraise=True,
            ):
                with attempt:
                    return self._read(await self._send(method, path, headers, body, once))
        except _Again as again:
            raise Unreachable(f"no answer from {self.url} within {patience:g} s: {again}") from None
        raise AssertionError("unreachable: tenacity returns or raises")

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._on_wait(f"{self.url}: {error}")

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None, once: bool
    ) -> httpx.Response:
        try:
            return await self._http.request(method, self.url + path, headers=headers, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CommandError(f"{self.url!r} is not the URL of a service (--url): {error}") from None
        except (httpx.LocalProtocolError, UnicodeEncodeError):
            raise CommandError("the key or a text holds characters that cannot be sent") from None
        except httpx.TransportError as error:
            if once and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                unknown = "whether it was done is not known: look before you repeat it"
                raise Unreachable(f"{self.url}: {_reason(error)}; {unknown}") from None
            raise _Again(_reason(error)) from None

    def _read(self, response: httpx.Response) -> Answer:
        """The JSON of a good answer. Raises _Again or CommandError for any other."""
        answer = _json(response)
        if response.is_success and (answer is not None or not response.content):
            return answer or {}
        problem = answer or {}
        if response.status_code in REPEATABLE or problem.get("retryable"):
            reason = problem.get("detail") or f"it answered {response.status_code}"
            raise _Again(str(reason), _seconds(response.headers.get("retry-after")))
        if answer is None:
            raise CommandError(f"{self.url} answered {response.status_code} and no JSON: is it this service?")
        raise CommandError(problem_text(response.status_code, problem, key_from=self._key_from))


def _wait(state: RetryCallState, patience: float) -> float:
    """What the service asked for, at least the backoff, and never beyond the end of our patience."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after + random.uniform(0, 0.1) if isinstance(error, _Again) and error.after else 0.0  # noqa: S311
    left = max(0.05, patience - (state.seconds_since_start or 0.0))
    return min(max(asked, _BACKOFF(state)), left)


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it took too long to answer"
    if isinstance(error, httpx.ConnectError):
        return f"it cannot be reached ({error})"
    return f"the connection was cut ({str(error) or type(error).__name__})"


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() else 0.0


def path_of(reference: str) -> str:
    """Where a generation is, by either of its ids."""
    return f"{PATH}/{quote(reference, safe='')}"


def _query(query: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _json(response: httpx.Response) -> Answer | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
