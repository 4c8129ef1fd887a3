"""What `submit` and `show` do: find the service, build the request, wait, and say how it ended."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click
import httpx
from rich.console import Console

from pipeline.cli.base import CommandError, Failed, Unreachable, settings_or_exit
from pipeline.cli.client import Client
from pipeline.cli.watch import TERMINAL, display, wait_for
from pipeline.cli.words import failure_text, generation_text
from pipeline.config import LOOPBACK_HOSTS, Settings

REQUEST_SECONDS = 15.0
WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - read, not bound

_PARAMETERS = {
    "duration": "duration",
    "aspect_ratio": "aspectRatio",
    "resolution": "resolution",
    "seed": "seed",
    "audio": "audio",
    "negative_prompt": "negativePrompt",
}
_MEMBERS = {
    "prompt": "prompt",
    "model": "model",
    "provider": "provider",
    "priority": "priority",
    "user": "userId",
    "generation_id": "generationId",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A service, the key for it and where that came from, and the seconds for which an answer is sought."""

    url: str
    key: str | None
    key_from: str | None
    patience: float


def service_at(url: str | None, key: str | None, patience: float) -> Target:
    """The service that the options mean; what they leave out comes from the settings. Raises CommandError."""
    if url and key:
        return Target(url, key, "--key", patience)
    settings = settings_or_exit()
    found = settings.api_key[0].get_secret_value() if settings.api_key else None
    key_from = "--key" if key else "API_KEY in the environment or .env"
    return Target(url or _local_url(settings), key or found, key_from, patience)


def _local_url(settings: Settings) -> str:
    """Where a service with these settings listens, as this machine reaches it."""
    host = "localhost" if settings.host in LOOPBACK_HOSTS | WILDCARDS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def build_body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The request of `submit`'s options; what was not given is left to the service. Raises CommandError."""
    body = {name: asked[option] for option, name in _MEMBERS.items() if asked.get(option) is not None}
    parameters = {name: asked[option] for option, name in _PARAMETERS.items() if asked.get(option) is not None}
    if asked.get("image"):
        parameters["image"] = _image(asked["image"])
    if parameters:
        body["parameters"] = parameters
    if asked.get("metadata"):
        body["metadata"] = dict(asked["metadata"])
    return body


def _image(given: str) -> dict[str, str]:
    """A URL as it is, a file as base64. Raises CommandError."""
    if given.startswith(("http://", "https://")):
        return {"url": given}
    try:
        data = Path(given).read_bytes()
    except OSError as error:
        raise CommandError(f"--image {given}: {error.strerror}") from None
    kind = _kind(data)
    if kind is None:
        raise CommandError(f"--image {given}: is neither PNG, JPEG nor WebP")
    return {"data": base64.b64encode(data).decode(), "mimeType": kind}


def _kind(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


@asynccontextmanager
async def _client(target: Target) -> AsyncIterator[Client]:
    """A client of the service; the environment's proxies are used for services on other machines only."""
    try:
        nearby = urlsplit(target.url).hostname in LOOPBACK_HOSTS
    except ValueError as error:
        raise CommandError(f"--url {target.url}: {error}") from None
    told: set[str] = set()

    def tell(reason: str) -> None:
        if reason not in told:
            told.add(reason)
            click.echo(f"{reason}; trying again", err=True)

    async with httpx.AsyncClient(timeout=REQUEST_SECONDS, trust_env=not nearby) as http:
        yield Client(http, target.url, key=target.key, key_from=target.key_from, patience=target.patience, on_wait=tell)


class Submission:
    """One request with one Idempotency-Key, made up unless given, and what became of it."""

    def __init__(self, target: Target, body: dict[str, Any], idempotency_key: str | None = None) -> None:
        self._target = target
        self._body = body
        self._key = idempotency_key or str(uuid.uuid4())
        self._id: str | None = None

    async def run(self, wait: bool) -> dict[str, Any]:
        """Submit, and wait for the end if that is asked for. Raises CommandError."""
        async with _client(self._target) as client:
            try:
                generation = await client.create(self._body, self._key)
            except Unreachable as error:
                raise Unreachable(f"{error.message}\n  {self.goodbye()}") from None
            self._id = generation["id"]
            if not wait:
                return generation
            console = Console(stderr=True)
            with display(console) as shown:
                shown.note(f"taken as {self._id}")
                return await wait_for(client, generation, shown)

    def goodbye(self) -> str:
        """What to know when we leave before the end."""
        if self._id is None:
            return f"whether it was taken is not known: repeat it with --idempotency-key {self._key}, it is taken once"
        return f"the generation goes on; look at it with: dailies show {self._id}"

    def report(self, generation: Mapping[str, Any], *, wait: bool, as_json: bool) -> None:
        """Print the result. Raises Failed for a generation that was waited for and has no video."""
        ended = generation["status"] in TERMINAL
        if as_json:
            click.echo(json.dumps(generation, indent=2, ensure_ascii=False))
        elif wait and generation.get("result"):
            click.echo(generation["result"]["videoUrl"])
        elif not wait:
            click.echo(generation["id"])
            click.echo(f"{generation['status']}; look at it with: dailies show {generation['id']}", err=True)
        if wait and ended and generation["status"] != "completed":
            raise Failed(f"{failure_text(generation)}\n  its story: dailies show {generation['id']}")


async def show_text(target: Target, generation_id: str, *, as_json: bool) -> str:
    """A generation with its story, for people or as JSON. Raises CommandError."""
    async with _client(target) as client:
        generation = await client.generation(quote(generation_id, safe=""))
        timeline = await client.timeline(generation["id"])
    if as_json:
        story = {**generation, "timeline": timeline["data"], "deliveries": timeline["deliveries"]}
        return json.dumps(story, indent=2, ensure_ascii=False)
    return generation_text(generation, timeline)
