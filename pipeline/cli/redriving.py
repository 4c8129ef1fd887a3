"""What `redrive` and `dead redrive` do: ask what it costs, ask who pays, then do it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from pipeline.cli.base import CommandError, Failed
from pipeline.cli.client import Answer, Client, path_of
from pipeline.cli.words import json_text, stage_text

DEAD_PATH = "/api/queue/dead/redrive"
IDS_AT_ONCE = 100
Json = Mapping[str, Any]

_STARTS = {
    "store": "goes on with storing the video that was made; nothing is paid",
    "poll": "goes on waiting for the work that the provider took; nothing more is paid",
    "resolve": "goes on with finding out what became of the paid call",
    "submit": "submits anew",
}
_REASONS = {
    "repay_needed": "would be paid for again (--allow-repay)",
    "spend_cap": "there is no money for today (SPEND_PER_...)",
    "not_redrivable": "cannot go on",
    "not_dead": "are not dead (any more)",
    "gone": "were deleted",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms things go on: whether to pay again, whether only to look, whether not to ask."""

    allow_repay: bool = False
    dry_run: bool = False
    yes: bool = False


def dollars(micros: int) -> str:
    """Money of the API for people."""
    return f"{micros / 1_000_000:.2f} USD"


def plan_text(generation: Json) -> str:
    """What a redrive does, and costs. Pure."""
    plan = generation["redrive"]
    parts = [f"{generation['id']} {_STARTS.get(plan['from'], plan['from'])}"]
    if plan["estimatedCostMicros"]:
        parts.append(f"about {dollars(plan['estimatedCostMicros'])}")
    if plan["needsAllowRepay"]:
        parts.append(f"earlier submissions cost, or may have cost, {dollars(plan['possiblyPaidMicros'] or 0)}")
    return "; ".join(parts)


async def redrive_one(client: Client, reference: str, start: str, terms: Terms, *, as_json: bool) -> str:
    """Look, ask if it is paid for, and let it go on; as text. Raises CommandError."""
    path = f"{path_of(reference)}/redrive"
    asked = {} if start == "auto" else {"from": start}
    planned = await client.post(path, {**asked, "dryRun": True})
    plan = planned["redrive"]
    if terms.dry_run:
        return json_text(planned) if as_json else plan_text(planned)
    click.echo(plan_text(planned), err=True)
    repay = terms.allow_repay
    if plan["needsAllowRepay"] and not repay:
        repay = _asked("Pay again?", terms.yes)
        if not repay:
            raise CommandError("it would be paid for again, and nothing was done\n  what to do: --allow-repay")
    elif plan["estimatedCostMicros"]:
        _may_pay(terms.yes)
    done = await client.post(path, {**asked, "allowRepay": repay}, once=True)
    if as_json:
        return json_text(done)
    return f"{done['id']}  run {done['run']}, {stage_text(done)}; look at it with: dailies watch {done['id']}"


def _asked(question: str, yes: bool) -> bool:
    """What somebody at the terminal says; no without one, and with `yes`, which answers no question of paying twice."""
    return not yes and sys.stdin.isatty() and click.confirm(question, err=True)


def _may_pay(yes: bool) -> None:
    """Somebody at a terminal is asked before anything is paid. Raises CommandError if they say no."""
    if not yes and sys.stdin.isatty() and not click.confirm("Go on?", err=True):
        raise CommandError("nothing was done")


@dataclass(frozen=True, slots=True)
class DeadRedriven:
    """What became of many: as text, and how many could not go on, by reason."""

    text: str
    refused: Counter[str]

    def complain(self) -> None:
        """Raises Failed with what was left behind, if anything was."""
        if self.refused:
            lines = [f"{count} {_REASONS.get(reason, reason)}" for reason, count in self.refused.items()]
            raise Failed("not all can go on: " + ", ".join(lines))


async def redrive_dead(client: Client, which: Mapping[str, Any], terms: Terms, *, as_json: bool) -> DeadRedriven:
    """Look what it costs, ask if it is paid for, and let them go on. Raises CommandError."""
    body = {**which, "allowRepay": terms.allow_repay}
    planned = await _whole(client, {**body, "dryRun": True})
    if terms.dry_run:
        return _told(planned, as_json)
    if planned["estimatedCostMicros"]:
        click.echo(dead_text(planned), err=True)
        _may_pay(terms.yes)
    return _told(await _whole(client, body), as_json)


def _told(total: Answer, as_json: bool) -> DeadRedriven:
    return DeadRedriven(json_text(total) if as_json else dead_text(total), Counter(total["refused"]))


def dead_text(total: Json) -> str:
    """How many went on, or would, and what that costs. Pure."""
    counts = [f"{count} {kind if count == 1 else _plural(kind)}" for kind, count in total["redriven"].items() if count]
    what = " and ".join(counts) or "nothing"
    cost = f", about {dollars(total['estimatedCostMicros'])}" if total["estimatedCostMicros"] else ""
    return f"{what} {'would go on' if total['dryRun'] else 'goes on' if not counts else 'go on'}{cost}"


def _plural(kind: str) -> str:
    return "deliveries" if kind == "delivery" else f"{kind}s"


async def _whole(client: Client, body: dict[str, Any]) -> Answer:
    """The sum of as many requests as it takes: ids in portions, the rest behind the cursor of the answer before."""
    ids = body.get("ids")
    portions = [body | {"ids": ids[at : at + IDS_AT_ONCE]} for at in range(0, len(ids), IDS_AT_ONCE)] if ids else [body]
    answers = [answer for portion in portions for answer in await _behind(client, portion)]
    return {
        **answers[-1],
        "redriven": _sum(answers, lambda answer: answer["redriven"]),
        "refused": _sum(answers, lambda answer: answer["refused"]),
        "estimatedCostMicros": sum(answer["estimatedCostMicros"] for answer in answers),
    }


async def _behind(client: Client, body: dict[str, Any]) -> list[Answer]:
    answers = [await client.post(DEAD_PATH, body, once=True)]
    while (after := answers[-1]["nextCursor"]) is not None:
        answers.append(await client.post(DEAD_PATH, body | {"after": after}, once=True))
    return answers


def _sum(answers: list[Answer], part: Callable[[Answer], Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for answer in answers:
        total.update(part(answer))
    return dict(total)
