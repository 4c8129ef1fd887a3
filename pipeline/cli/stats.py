"""`stats`: the queue at a glance, once or live. The text is pure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.cli.client import Client
from pipeline.cli.pausing import pause_text
from pipeline.cli.tables import table
from pipeline.cli.words import json_text, span_text

PATH = "/api/queue/status"
Json = Mapping[str, Any]


async def once(client: Client, *, as_json: bool) -> str:
    """The queue as it stands, as text. Raises CommandError."""
    status = await client.get(PATH)
    return json_text(status) if as_json else status_text(status)


async def watch_live(client: Client, every: float, *, as_json: bool) -> NoReturn:
    """Look again and again until Ctrl-C: on a terminal in place, elsewhere one after the other."""
    console = Console()
    if as_json or not console.is_terminal:
        while True:
            status = await client.get(PATH)
            click.echo(json.dumps(status, ensure_ascii=False) if as_json else f"{status_text(status)}\n")
            await asyncio.sleep(every)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(Text(f"{status_text(await client.get(PATH))}\n\nCtrl-C ends"), refresh=True)
            await asyncio.sleep(every)


def status_text(status: Json) -> str:
    """What waits, runs and is stuck; for the operator also lanes, workers and the last hour."""
    parts = [_counts(status), *_lanes(status), *_workers(status), *_hour(status.get("lastHour"))]
    return "\n\n".join(parts)


def _counts(status: Json) -> str:
    rows = []
    for kind in ("generations", "deliveries"):
        counted = status[kind]["byStatus"]
        steps = ", ".join(f"{step} {count}" for step, count in status[kind].get("byStep", {}).items() if count)
        rows.append((kind, *(counted.get(name, 0) for name in ("waiting", "pending", "processing", "dead")), steps))
    oldest = status.get("oldestWaitingSeconds")
    notes = [f"the oldest waits for {span_text(oldest)}"] if oldest is not None else []
    notes += [f"{status['held']} held: the outcome of a paid call is not known"] if status.get("held") else []
    short = status.get("waitingForSpend")
    notes += [f"{short} waiting: no cap on spending leaves room for them today (SPEND_PER_...)"] if short else []
    notes += [f"the whole service is {pause_text(status)}"] if status.get("paused") else []
    notes += [
        f"user:{each['user']} of {each['tenant']} is {pause_text(each)}" for each in status.get("pausedUsers", ())
    ]
    head = (status["at"], "WAITING", "PENDING", "RUNNING", "DEAD", "STEPS")
    return "\n".join([table(head, rows), *notes])


def _lanes(status: Json) -> Iterator[str]:
    lanes = [lane for lane in status.get("lanes") or () if lane["name"] != "*"]
    if lanes:
        rows = [
            (
                lane["name"],
                f"{lane['inFlight']}/{lane['maxInFlight']}",
                "" if rate is None else f"{lane['requestsLastMinute']}/{rate}",
                _state(lane),
            )
            for lane in lanes
            for rate in [lane.get("requestsPerMinute")]
        ]
        yield table(("LANE", "IN FLIGHT", "PER MINUTE", "STATE"), rows)


def _state(lane: Json) -> str:
    if lane["paused"]:
        return pause_text(lane)
    return f"probing, one call at a time, after: {lane['pausedReason']}" if lane.get("probing") else ""


def _workers(status: Json) -> Iterator[str]:
    if "workers" in status:
        names = ", ".join(f"{worker['host']}:{worker['pid']}" for worker in status["workers"])
        yield f"workers alive: {len(status['workers'])}" + (f" ({names})" if names else "; start `dailies worker`")


def _hour(hour: Json | None) -> Iterator[str]:
    if not hour:
        return
    rate = hour.get("successRate")
    lines = [
        "In the last hour",
        f"  {hour['completed']} completed, {hour['failed']} failed, {hour['cancelled']} cancelled"
        + ("" if rate is None else f"; {rate:.1%} succeeded"),
    ]
    if "provider" in hour:
        calls = hour["provider"]
        lines.append(
            f"  provider: {calls['calls']} calls, {calls['errors']} errors, {calls['rateLimited']} rate limits"
        )
        lines[-1] += f", {calls['costUsd']:.2f} USD; {hour['retries']} retries"
    if "webhooks" in hour:
        sent = hour["webhooks"]
        lines.append(f"  webhooks: {sent['delivered']} delivered, {sent['retried']} tried again, {sent['failed']} dead")
    yield "\n".join(lines)
    times = {name: cell for name, cell in hour.get("seconds", {}).items() if cell["count"]}
    if times:
        rows = [(name, cell["count"], _seconds(cell["average"]), _seconds(cell["p95"])) for name, cell in times.items()]
        yield table(("SECONDS", "COUNT", "AVERAGE", "P95"), rows)


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
