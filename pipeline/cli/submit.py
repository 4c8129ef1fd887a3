"""What `submit` and `show` do: build the request, wait, and say how it ended."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.cli.base import CommandError, Failed, Unreachable
from pipeline.cli.client import Client, path_of
from pipeline.cli.follow import follow
from pipeline.cli.target import Target, connect
from pipeline.cli.usage import calls_text
from pipeline.cli.watch import TERMINAL, display, wait_for
from pipeline.cli.words import failure_text, generation_text, json_text

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


def build_body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The request of `submit`'s options; what was not given is left to the service. Raises CommandError."""
    body = {name: asked[option] for option, name in _MEMBERS.items() if asked.get(option) is not None}
    parameters = {name: asked[option] for option, name in _PARAMETERS.items() if asked.get(option) is not None}
    for option, name in (("image", "image"), ("last_image", "lastImage")):
        if asked.get(option):
            parameters[name] = _image(asked[option], option)
    if parameters:
        body["parameters"] = parameters
    if asked.get("fallback"):
        body["fallback"] = [_fallback(given) for given in asked["fallback"]]
    if asked.get("extra") is not None:
        body["extra"] = asked["extra"]
    if asked.get("metadata"):
        body["metadata"] = dict(asked["metadata"])
    return body


def _fallback(given: str) -> dict[str, str]:
    """`provider`, or `provider:model`."""
    provider, _, model = given.partition(":")
    return {"provider": provider} | ({"model": model} if model else {})


def _image(given: str, option: str) -> dict[str, str]:
    """A URL as it is, a file as base64. Raises CommandError."""
    if given.startswith(("http://", "https://")):
        return {"url": given}
    try:
        data = Path(given).read_bytes()
    except OSError as error:
        raise CommandError(f"--{option.replace('_', '-')} {given}: {error.strerror}") from None
    kind = _kind(data)
    if kind is None:
        raise CommandError(f"--{option.replace('_', '-')} {given}: is neither PNG, JPEG nor WebP")
    return {"data": base64.b64encode(data).decode(), "mimeType": kind}


def _kind(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


class Submission:
    """One request with one Idempotency-Key, made up unless given, and what became of it."""

    def __init__(self, target: Target, body: dict[str, Any], idempotency_key: str | None = None) -> None:
        self._target = target
        self._body = body
        self._key = idempotency_key or str(uuid.uuid4())
        self._id: str | None = None

    async def run(self, wait: bool) -> dict[str, Any]:
        """Submit, and wait for the end if that is asked for. Raises CommandError."""
        async with connect(self._target) as client:
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


def report(generation: Mapping[str, Any], *, wait: bool, as_json: bool, quiet: bool = False) -> None:
    """Print the result, unless `quiet`. Raises Failed for a generation that was waited for and has no video."""
    ended = generation["status"] in TERMINAL
    if as_json:
        click.echo(json_text(generation))
    elif quiet:
        pass
    elif wait and generation.get("result"):
        click.echo(generation["result"]["videoUrl"])
    elif not wait:
        click.echo(generation["id"])
        click.echo(f"{generation['status']}; look at it with: dailies show {generation['id']}", err=True)
    if wait and ended and generation["status"] != "completed":
        raise Failed(f"{failure_text(generation)}\n  its story: dailies show {generation['id']}")


async def watch_shown(client: Client, reference: str) -> dict[str, Any]:
    """Follow a generation with a display until it has ended. Raises CommandError."""
    generation = await client.generation(reference)
    with display(Console(stderr=True)) as shown:
        return await wait_for(client, generation, shown)


async def watch_lines(client: Client, reference: str) -> dict[str, Any]:
    """Follow a generation and print it whenever it has changed, as a line of JSON. Raises CommandError."""
    last: dict[str, Any] = {}
    async for generation in follow(client, reference):
        if generation != last:
            click.echo(json.dumps(generation, ensure_ascii=False))
        last = generation
    return last


async def show_text(target: Target, generation_id: str, *, as_json: bool) -> str:
    """A generation with its story, for people or as JSON. Raises CommandError."""
    async with connect(target) as client:
        generation = await client.generation(generation_id)
        timeline = await client.timeline(generation["id"])
        calls = (await client.get(f"{path_of(generation['id'])}/submissions"))["data"]
    if as_json:
        story = {"timeline": timeline["data"], "deliveries": timeline["deliveries"], "submissions": calls}
        return json_text({**generation, **story})
    return "\n".join([generation_text(generation, timeline), "", "Paid calls", *calls_text(calls)])
