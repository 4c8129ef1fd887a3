"""What the commands on many things have in common: one after the other, and what was refused is told in the end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from pipeline.cli.base import CommandError, Unreachable
from pipeline.cli.client import DELIVERIES, Answer, Client, path_of
from pipeline.cli.follow import TERMINAL
from pipeline.cli.words import json_text

Json = Mapping[str, Any]


async def each(ids: Sequence[str], act: Callable[[str], Awaitable[Answer]]) -> tuple[list[Answer], list[str]]:
    """Do it for every id: the answers, and for each that was refused why, in words. Raises Unreachable."""
    done, refused = [], []
    for reference in ids:
        try:
            done.append(await act(reference))
        except Unreachable:
            raise
        except CommandError as error:
            refused.append(f"{reference}: {error.message}")
    return done, refused


def finish(refused: Sequence[str]) -> None:
    """Raises CommandError with what was refused, if anything was."""
    if refused:
        raise CommandError("\n".join(refused))


def sure(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises CommandError where nobody can answer, or who does says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question.rstrip('?')}? Nobody is there to ask: say --yes")
    if not click.confirm(question, err=True):
        raise CommandError("nothing was done")


async def cancel_each(client: Client, ids: Sequence[str], *, as_json: bool) -> tuple[str, list[str]]:
    """Cancel each: how they stand, as text, and what was refused. Raises Unreachable."""
    done, refused = await each(ids, lambda reference: client.post(f"{path_of(reference)}/cancel"))
    return list_text(done, as_json, _cancelled), refused


def _cancelled(generation: Json) -> str:
    ended = generation["status"] in TERMINAL
    state = generation["status"] if ended else "the end is under way"
    return f"{generation['id']}  {state}, billed: {generation['billed'] or 'not known yet'}"


async def delete_each(client: Client, ids: Sequence[str], *, as_json: bool) -> tuple[str, list[str]]:
    """Delete each: which are gone, as text, and what was refused. Raises Unreachable."""

    async def one(reference: str) -> Answer:
        return {"id": reference, **await client.delete(path_of(reference)), "deleted": True}

    done, refused = await each(ids, one)
    return list_text(done, as_json, lambda answer: f"{answer['id']}  deleted"), refused


def list_text(answers: Sequence[Answer], as_json: bool, line: Callable[[Json], str]) -> str:
    """Answers as a list in JSON, or a line for each."""
    return json_text({"object": "list", "data": answers}) if as_json else "\n".join(map(line, answers))


async def redeliver_each(client: Client, ids: Sequence[str], *, as_json: bool) -> tuple[str, list[str]]:
    """Send each once more: the new deliveries, as text, and what was refused. Raises Unreachable."""
    done, refused = await each(
        ids, lambda delivery: client.post(f"{DELIVERIES}/{quote(delivery, safe='')}/redeliver", once=True)
    )
    return list_text(done, as_json, lambda made: f"{made['id']}  {made['type']} to {made['url']}"), refused
