"""What `listen` does: hear every event of a service once, and forward its very bytes, signed afresh."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx

from pipeline.cli.base import CommandError, Failed, settings_or_exit
from pipeline.cli.client import Client
from pipeline.cli.follow import EventParser
from pipeline.cli.words import problem_text
from pipeline.keys import local_secret
from webhooks.events import is_wanted
from webhooks.sender import SendResult, build_headers, send
from webhooks.signing import InvalidSecret, new_secret, parse_secret

STREAM = "/api/webhooks/stream"
SILENCE = 60.0
"""Seconds without a byte, not even a comment, after which the stream counts as dead."""
REMEMBERED = 100_000
FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0
REFUSED = frozenset({400, 401, 403, 404, 405})
_ENTRY = re.compile(r"^(?:export\s+)?WEBHOOK_SECRET\s*=.*$", re.MULTILINE)

Event = dict[str, Any]


def project_secret(given: str | None) -> str:
    """The secret that a project's app verifies with: given, or that of the settings, or one that is made once and kept
    in DATA_DIR/secrets, where a service of this directory has it, too. Raises CommandError."""
    secret = given
    if secret is None:
        settings = settings_or_exit()
        if settings.webhook_secret:
            secret = settings.webhook_secret[0].get_secret_value()
        else:
            try:
                secret = local_secret(settings.data_dir / "secrets", "WEBHOOK_SECRET", lambda: new_secret(os.urandom))
            except (OSError, ValueError) as error:
                raise CommandError(f"{error}; or give one with --secret") from None
    try:
        parse_secret(secret)
    except InvalidSecret as error:
        raise CommandError(f"{'--secret' if given else 'WEBHOOK_SECRET'}: {error}") from None
    return secret


def write_env(path: Path, secret: str) -> bool:
    """Put WEBHOOK_SECRET into a file of variables, in the place of the one that is there; whether that changed it.
    Raises CommandError."""
    line = f"WEBHOOK_SECRET={secret}"
    try:
        before = path.read_text() if path.exists() else ""
        if _ENTRY.search(before):
            after = _ENTRY.sub(line, before)
        else:
            after = before + ("" if not before or before.endswith("\n") else "\n") + line + "\n"
        if after == before:
            return False
        if not path.exists():
            path.touch(mode=0o600)
        path.write_text(after)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--env-file {path}: {error}") from None
    return True


@dataclass(slots=True)
class Heard:
    """Hears a service. Every event is told once, however often the stream was cut.

    Args:
        tell: what people should know of the stream itself.

    Attributes:
        cursor: the id to go on behind.
    """

    client: Client
    tell: Callable[[str], None]
    cursor: str | None = None
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _connected: bool = False

    async def events(self) -> AsyncGenerator[Event]:
        """For ever. Raises CommandError for what the service refuses, and while it has never answered."""
        wait = FIRST_WAIT
        while True:
            try:
                async with aclosing(self._stream()) as stream:
                    async for event in stream:
                        wait = FIRST_WAIT
                        yield event
                reason = "the stream ended"
            except (httpx.HTTPError, ValueError) as error:
                reason = f"the stream was cut ({str(error) or type(error).__name__})"
            if not self._connected:
                await self.client.get("/healthz")  # waits as every command does, and says what is wrong
            elif wait > FIRST_WAIT:
                self.tell(f"{reason}; trying again")
            await asyncio.sleep(wait)
            wait = min(LONGEST_WAIT, wait * 2)

    async def _stream(self) -> AsyncGenerator[Event]:
        parser = EventParser(self.cursor)
        async with self.client.stream(STREAM, last_id=self.cursor, silence=SILENCE) as response:
            await _accept(response)
            async for chunk in response.aiter_bytes():
                for name, data in parser.feed(chunk):
                    if name == "ready":
                        self._ready(parser.last_id)
                    elif self._is_new(parser.last_id):
                        event: Event = json.loads(data)
                        yield event
                        self.cursor = parser.last_id

    def _ready(self, place: str | None) -> None:
        if not self._connected:
            self.tell(f"ready: events of {self.client.url} are heard")
        self._connected = True
        self.cursor = self.cursor or place

    def _is_new(self, event_id: str | None) -> bool:
        if event_id is None or event_id in self._known:
            return False
        self._known[event_id] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return True


async def _accept(response: httpx.Response) -> None:
    """Raises CommandError for what will not be better by asking again, HTTPError for what may."""
    if response.status_code in REFUSED:
        await response.aread()
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        told = problem if isinstance(problem, dict) else {}
        raise CommandError(problem_text(response.status_code, told, key_from="--key, $DAILIES_KEY or API_KEY"))
    response.raise_for_status()
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise CommandError(f"{response.url} tells no events: is it this service, and is it new enough?")


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Sends events on as webhooks: the body's very bytes, headers signed with this secret at this moment."""

    http: httpx.AsyncClient
    url: str
    secret: str
    timeout: float

    async def forward(self, event: Event) -> SendResult:
        """One attempt; never raises for what the app does."""
        body = str(event["body"]).encode()
        headers = build_headers([self.secret], event_id=event["id"], timestamp=int(time.time()), body=body, attempt=1)
        return await send(self.http, self.url, headers=headers, body=body, timeout=self.timeout, now=time.time)


def line_of(event: Event, result: SendResult, at: float) -> str:
    """An event and what became of it. Pure."""
    clock = time.strftime("%H:%M:%S", time.localtime(at))
    status = str(result.status) if result.status is not None else result.reason.value
    said = "" if is_taken(result) else f"  {result.detail}"
    return f"{clock}  {event['type']:<22} {event['generation']}  {event['id']}  {status:>3}  {result.ms} ms{said}"


def is_taken(result: SendResult) -> bool:
    """Whether the app said 2xx."""
    return result.status is not None and 200 <= result.status <= 299


async def listen(
    client: Client,
    forward: Callable[[Event], Awaitable[SendResult]],
    *,
    types: Collection[str],
    most: int | None,
    tell: Callable[[str], None],
) -> None:
    """Forward event after event, until `most` were or somebody ends it. Raises CommandError; Failed, at the end of
    `most`, if the app did not take them all."""
    done = missed = 0
    async with aclosing(Heard(client, tell).events()) as events:
        async for event in events:
            if types and not is_wanted(event["type"], types):
                continue
            result = await forward(event)
            click.echo(line_of(event, result, time.time()))
            done, missed = done + 1, missed + (not is_taken(result))
            if done == most:
                break
    if missed:
        raise Failed(f"{missed} of {done} events were not answered with a 2xx")
