"""Every row of the failure list against a real bad receiver, through the client that deliveries go through.

Run it: `make receivers`. A row is missed if the attempt took longer than its deadline and 0.3 s, was judged or told
otherwise than the list says, or kept more of the answer than 4 KiB; then the exit code is 1.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_network

import httpx

from pipeline.outbound import Exchange, Transport
from pipeline.outbound.clients import WEBHOOK_KEEP_ALIVE, tls_context
from pipeline.outbound.dns import Lookups, Resolve
from pipeline.outbound.guard import Guard
from tests.webhooks.failure_list import DEADLINE, ROWS, Row
from webhooks.sender import Retry, SendResult, build_headers, judge, send
from webhooks.sink import Seen, Sink, parse_spec
from webhooks.sink.certificates import Certificates

SECRET = "whsec_" + "QUJD" * 8
BODY = b'{"type":"generation.completed"}'
NEAR = Guard((ip_network("127.0.0.0/8"), ip_network("::1/128")))
SPARE = 0.3
"""Seconds beyond the deadline."""


@cache
def certificates() -> Certificates:
    return Certificates()


def trusting() -> ssl.SSLContext:
    """As deliveries trust, and the sinks' authority."""
    context = tls_context()
    context.load_verify_locations(cadata=certificates().authority.decode())
    return context


@asynccontextmanager
async def guarded(*, guard: Guard = NEAR, resolve: Resolve | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The client of deliveries, which also trusts the sinks."""
    lookups = Lookups()
    transport = Transport(
        tls=trusting, resolve=resolve or lookups, per_host=16, keep_alive=WEBHOOK_KEEP_ALIVE, guard=guard
    )
    try:
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            yield client
    finally:
        lookups.close()


def sink(
    behaviour: str,
    seen: list[Seen] | None = None,
    host: str = "127.0.0.1",
    uniform: Callable[[], float] = random.random,
) -> Sink:
    return Sink(
        parse_spec([behaviour]),
        host=host,
        secrets=[SECRET],
        on_request=(lambda _: None) if seen is None else seen.append,
        now=time.time,
        uniform=uniform,
        certificates=certificates(),
    )


async def attempt(
    client: httpx.AsyncClient, url: str, *, timeout: float = DEADLINE, body: bytes = BODY
) -> tuple[SendResult, float]:
    """One attempt as the outbox makes it, and how many seconds it took."""
    headers = build_headers([SECRET], event_id="evt_1", timestamp=int(time.time()), body=body, attempt=1)
    began = time.monotonic()
    result = await send(client, url, headers=headers, body=body, timeout=timeout, now=time.time, exchange=Exchange())
    return result, time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a row, and what of that must not be."""

    row: Row
    result: SendResult
    seconds: float
    problems: tuple[str, ...]


async def tried(client: httpx.AsyncClient, row: Row) -> Trial:
    """Send once to a receiver of this kind."""
    seen: list[Seen] = []
    async with sink(row.behaviour, seen) as receiver:
        result, seconds = await attempt(client, f"{row.scheme}://127.0.0.1:{receiver.port}/hook")
    return Trial(row, result, seconds, (*problems(row, result, seconds), *unsigned(seen)))


def problems(row: Row, result: SendResult, seconds: float) -> list[str]:
    """Where an attempt differs from what its row says."""
    found = []
    if seconds > DEADLINE + SPARE:
        found.append(f"took {seconds:.2f} s")
    if (result.status, result.reason) != (row.status, row.reason):
        found.append(f"is {result.status} {result.reason}, not {row.status} {row.reason}")
    if not same_verdict(judge(result), row.verdict):
        found.append(f"is judged {judge(result)}, not {row.verdict}")
    if row.words not in result.detail:
        found.append(f"does not say {row.words!r}: {result.detail}")
    if len(result.response) > 4096 or row.kept not in (None, len(result.response)):
        found.append(f"kept {len(result.response)} bytes")
    if not all(character.isprintable() for character in result.detail) or len(result.detail) > 500:
        found.append("says what cannot be shown")
    return found


def same_verdict(given: object, wanted: object) -> bool:
    """Equal, but for two seconds of a wait: the clock goes on."""
    if isinstance(given, Retry) and isinstance(wanted, Retry) and None not in (given.retry_after, wanted.retry_after):
        return abs((given.retry_after or 0) - (wanted.retry_after or 0)) <= 2
    return given == wanted


def unsigned(seen: list[Seen]) -> list[str]:
    """Requests that were read whole and whose signature was not right, or that came twice."""
    found = [f"was not signed: {each.problem}" for each in seen if each.problem and "early-413" not in each.behaviours]
    return [*found, *(["was sent twice"] if len(seen) > 1 else [])]


def table(trials: list[Trial]) -> str:
    """The trials for people."""
    lines = []
    for trial in trials:
        row, result = trial.row, trial.result
        what = f"{row.behaviour}{' (https)' if row.scheme == 'https' else ''}"[:36]
        mark = "ok  " if not trial.problems else "MISS"
        verdict = type(judge(result)).__name__.lower()
        lines.append(f"{mark} {row.number:>2}  {what:36} {trial.seconds:5.2f} s  {verdict:9}  {result.detail[:96]}")
        lines += [f"         {problem}" for problem in trial.problems]
    return "\n".join(lines)


async def main() -> int:
    async with guarded() as client:
        trials = [await tried(client, row) for row in ROWS]
    print(table(trials))
    missed = sum(bool(trial.problems) for trial in trials)
    print(f"{len(trials)} receivers, {missed} missed" if missed else f"{len(trials)} receivers, each as it has to be")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
