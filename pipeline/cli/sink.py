"""The bad receiver as a command: what it can do, and a line for every request that it gets."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.cli.base import CommandError
from pipeline.cli.ports import listening
from pipeline.cli.receiver import DEFAULT_PATH
from pipeline.cli.signals import stop_signals
from webhooks.sink import BEHAVIOURS, BadBehaviour, Seen, Sink, Spec, parse_spec
from webhooks.sink.certificates import Certificates

MOST = 60
"""Characters of foreign text in a line."""


def behaviour_table() -> str:
    """Every behaviour with what it does, under its heading."""
    lines = [
        "NAME[=VALUE][:PROBABILITY], several with commas; each is drawn anew for every request, later ones win.",
        "",
    ]
    width = max(len(_spelled(name)) for name in BEHAVIOURS)
    for section in dict.fromkeys(behaviour.section for behaviour in BEHAVIOURS.values()):
        lines.append(f"{section}:")
        named = [(name, each) for name, each in BEHAVIOURS.items() if each.section == section]
        lines += [f"  {_spelled(name):<{width}}  {each.meaning}" for name, each in named]
    return "\n".join([*lines, "", "Example: dailies sink --behaviour slow-body,status=503:0.3"])


def _spelled(name: str) -> str:
    argument = BEHAVIOURS[name].argument
    if argument is None:
        return name
    return f"{name}={argument.name}" if argument.default is None else f"{name}[={argument.name}]"


def wanted(texts: Sequence[str]) -> Spec:
    """What the options ask for. Raises CommandError."""
    try:
        return parse_spec(texts)
    except BadBehaviour as error:
        raise CommandError(f"--behaviour: {error} (--list shows all)") from None


async def run_sink(
    spec: Spec, *, host: str, port: int, secrets: Sequence[str], seed: int | None, ca_file: Path | None
) -> None:
    """Be bad until a signal. Raises CommandError."""
    certificates = Certificates()
    if ca_file is not None:
        try:
            ca_file.write_bytes(certificates.authority)
        except OSError as error:
            raise CommandError(f"--ca-file: {ca_file} cannot be written: {error.strerror}") from None
    sink = Sink(
        spec,
        host=host,
        port=port,
        secrets=secrets,
        on_request=lambda seen: click.echo(request_line(seen)),
        now=time.time,
        uniform=random.Random(seed).random,  # noqa: S311 - chances, not secrets
        certificates=certificates,
    )
    with stop_signals() as stop, listening(host, port, "--host and --port"):
        async with sink:
            shown = f"[{host}]" if ":" in host else host
            click.echo(f"A bad receiver at http://{shown}:{sink.port}{DEFAULT_PATH} (https:// works, too)")
            click.echo(f"It does: {spec_text(spec)}\n")
            await stop.wait()


def spec_text(spec: Spec) -> str:
    """What a sink does, in a line."""
    shown = [item.label + (f" at {item.probability:.0%}" if item.probability < 1 else "") for item in spec.items]
    return ", ".join(shown) or "ok: it answers 200 to everything"


def request_line(seen: Seen) -> str:
    """One request in a line: what it was, whether its signature was right, and what it was met with."""
    clock = time.strftime("%H:%M:%S", time.localtime(seen.at))
    event = _short(seen.headers.get("webhook-id", "no id"))
    attempt = seen.headers.get("webhook-attempt")
    tried = f", attempt {_short(attempt)}" if attempt else ""
    mark = "signature right" if seen.problem is None else f"SIGNATURE: {seen.problem}"
    met = ", ".join(seen.behaviours) or "ok"
    secure = " over TLS" if seen.encrypted else ""
    return f"{clock}  {_short(seen.method)} {_short(seen.path)}{secure}  {event}{tried}  {mark}  -> {met}"


def _short(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:MOST])
