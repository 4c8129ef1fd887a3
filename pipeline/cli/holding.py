"""What `held` and `resolve` do: explain paid calls that nobody knows the outcome of, and take a person's word."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pipeline.cli.acts import sure
from pipeline.cli.base import CommandError, Unreachable
from pipeline.cli.client import Client, path_of
from pipeline.cli.listing import more_text
from pipeline.cli.tables import age
from pipeline.cli.words import dollars, json_text, stage_text

HELD = "/api/held"
Json = Mapping[str, Any]

WORDS = {"accepted": "accepted", "not-taken": "not_taken", "abandon": "abandon"}
_QUESTIONS = {
    "accepted": "The provider has it as {operation}: go on with that?",
    "not-taken": "The provider surely never took it: make a new call, which costs about {price}?",
    "abandon": "Nobody will know: fail it, and count {price} as possibly charged?",
}


async def list_held(client: Client, most: int | None, *, as_json: bool) -> str:
    """Up to `most` of them (None: all), as text. Raises CommandError."""
    page = await client.pages(HELD, {}, most)
    if as_json:
        return json_text(page)
    if not page["data"]:
        return "nothing is held: every paid call has a known outcome"
    return "\n\n".join(held_text(entry, time.time()) for entry in page["data"]) + more_text(page)


def held_text(entry: Json, now: float) -> str:
    """One of them, in words. Pure; `now` is Unix seconds."""
    model = f", {entry['model']}" if entry["model"] else ""
    at_stake = f"{dollars(entry['atStakeMicros'])} at stake"
    lines = [
        f"{entry['id']}  {entry['provider']}{model}  {at_stake}  since {entry['since']} ({age(entry['since'], now)})",
        f"  happened     {entry['happened']}",
        f"  tried        {entry['tried']}",
        f"  can come     {entry['canStillCome']}",
        f"  then         {entry['then']}",
    ]
    if entry["candidateOperation"] is not None:
        lines.append(f"  candidate    {entry['candidateOperation']}, named by a callback")
    return "\n".join([*lines, f"  what to do   {entry['whatToDo']}"])


async def resolve_one(
    client: Client, reference: str, said: str, operation: str | None, *, yes: bool, as_json: bool
) -> str:
    """Ask whoever is there, and say it; how the generation stands then, as text. Raises CommandError."""
    try:
        price = dollars((await client.generation(reference))["estimatedCostMicros"])
    except Unreachable:
        raise
    except CommandError:  # it was deleted or is gone; its call may still be open
        price = "what it cost"
    sure(_QUESTIONS[said].format(operation=operation, price=price), yes)
    body = {"as": WORDS[said]} | ({} if operation is None else {"operation": operation})
    done = await client.post(f"{path_of(reference)}/resolve", body, once=True)
    if as_json:
        return json_text(done)
    return f"{done['id']}  {stage_text(done)}" if done else f"{reference}  closed in the ledger"
