"""What was paid, for people: usage added up, and the calls of one generation. The texts are pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cli.client import Client
from pipeline.cli.listing import terminal_width
from pipeline.cli.tables import table
from pipeline.cli.words import json_text
from pipeline.money import usd

Json = Mapping[str, Any]
USAGE = "/api/usage"


async def usage_text(client: Client, asked: Mapping[str, Any], *, as_json: bool) -> str:
    """Usage by user, provider, model or day. Raises CommandError."""
    query = {"groupBy": asked["by"], **{name: asked[name] for name in ("since", "until", "tenant", "limit")}}
    usage = await client.get(USAGE, query)
    return json_text(usage) if as_json else usage_table(usage, terminal_width())


def usage_table(usage: Json, width: int | None = None) -> str:
    """A line for each group, and the sum of all."""
    head = ("CALLS", "MADE", "FAILED", "OPEN", "UNCLEAR", "PAID", "NOT SETTLED", "TOTAL", usage["groupBy"].upper())
    rows = [(*_figures(row), _name(row)) for row in usage["data"]]
    total = "total" + (", and more groups: --limit" if usage["hasMore"] else "")
    return table(head, [*rows, (*_figures(usage["total"]), total)], width)


def _figures(row: Json) -> tuple[object, ...]:
    counts = tuple(row[name] for name in ("submissions", "succeeded", "failed", "open", "unclear"))
    return (*counts, *(usd(row[name]) for name in ("costMicros", "openMicros", "totalMicros")))


def _name(row: Json) -> str:
    name = "-" if row["group"] is None else row["group"]
    return name if row["provider"] is None else f"{name} ({row['provider']})"


def calls_text(submissions: Sequence[Json]) -> list[str]:
    """The paid calls of a generation, a line for each."""
    return [_call(each) for each in submissions] or ["  none yet"]


def _call(call: Json) -> str:
    cost = call["costMicros"]
    price = f"about {usd(call['estimateMicros'])}" if cost is None else usd(cost)
    charged = {"yes": price, "no": "not charged", "unknown": f"{price}, if it is charged"}[call["billed"]]
    error = f"  {call['error']['code']}" if call["error"] else ""
    work = f"  {call['operation']}" if call["operation"] else ""
    model = f", {call['model']}" if call["model"] else ""
    return f"  {call['intendedAt'][11:23]}  {call['provider']}{model}  {call['outcome']}  {charged}{work}{error}"
