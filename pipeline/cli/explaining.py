"""What `explain` does: why a generation waits or what it does, in words; and the same told to who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.cli.base import CommandError
from pipeline.cli.client import Client, path_of
from pipeline.cli.words import json_text

WAITS = 10.0
"""Seconds after which who waits for a start is told why, and again where that has changed."""
Json = Mapping[str, Any]


async def explain_one(client: Client, reference: str, *, as_json: bool) -> str:
    """One generation explained, as text. Raises CommandError."""
    told = await client.get(f"{path_of(reference)}/explain")
    return json_text(told) if as_json else explanation_text(told)


def explanation_text(told: Json) -> str:
    """The sentence, what to do, and the facts that are known. Pure."""
    stage = f", {told['stage']}" if told["stage"] and told["stage"] != told["state"] else ""
    state = "" if told["state"] == told["status"] else f": {told['state']}"
    facts = [f"  {name:<14} {value}" for name, value in _facts(told) if value is not None]
    return "\n".join(
        [
            f"{told['id']}  {told['status']}{stage}{state}",
            "",
            f"  {_plain(told['summary'])}",
            "",
            f"  {'what to do':<14} {_plain(told['whatToDo'])}",
            *facts,
        ]
    )


def _facts(told: Json) -> Iterator[tuple[str, object]]:
    if told["position"] is not None:
        yield "position", f"{'' if told['positionExact'] else 'at least '}{told['position']}"
    yield "expected start", told["expectedStart"]
    yield "retry at", told["retryAt"]
    yield "next turn", told["nextTurnAt"]
    yield from _waiting(told["waiting"])
    if told["attempts"]:
        yield "attempts", f"{told['attempts']} failed"
    if told["lastTrouble"]:
        yield "last trouble", f"{told['lastTrouble']['at']}  {_plain(told['lastTrouble']['message'])}"
    yield "worker", told["worker"]
    if told["workersAlive"] is not None and told["state"] == "no_worker":
        yield "workers", f"0 alive, last seen {told['workerLastSeenAt'] or 'never'}"
    for each in told["deliveries"]:
        yield "webhook", f"{each['id']}  {each['type']}  {each['state']}"


def _waiting(waiting: Json | None) -> Iterator[tuple[str, object]]:
    if waiting is None:
        return
    if waiting["lanePlaces"] is not None:
        yield waiting["lane"], f"{waiting['laneInFlight']} of {waiting['lanePlaces']} in flight"
    bound = "" if waiting["userMaxInFlight"] is None else f" of {waiting['userMaxInFlight']}"
    yield "its user", f"{waiting['userInFlight']}{bound} in flight, {waiting['userAhead']} before it in line"


def _plain(text: str) -> str:
    """One line of printable text: the words of strangers must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


async def tell_why(client: Client, reference: str, tell: Callable[[str], None], *, every: float = WAITS) -> None:
    """While a generation waits for its start, tell why, each time that has changed. Until cancelled; never fails."""
    last = None
    while True:
        await asyncio.sleep(every)
        try:
            told = await client.get(f"{path_of(reference)}/explain")
        except CommandError:
            continue  # an older service, or one that is away: whoever follows the generation says so
        if told["stage"] == "waiting" and told["state"] != last:
            tell(_plain(told["summary"]))
        last = told["state"]
