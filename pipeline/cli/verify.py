"""Why a signature does not verify: the request, the secrets that it may have been signed with, and the findings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from pipeline.cli.base import CommandError, settings_or_exit
from pipeline.cli.schema import guarded
from webhooks.diagnosis import Diagnosis, Dump, UnreadableDump, diagnose, read_dump
from webhooks.diagnosis.dump import MAX_DUMP
from webhooks.diagnosis.search import Known

_MARKS = {True: "right", False: "WRONG", None: "?"}


def examined(
    request: Path | None,
    *,
    secrets: Sequence[str],
    headers: Sequence[str],
    body: Path | None,
    at: str | None,
    now: float,
) -> Diagnosis:
    """Look at a request from a file, from standard input (None), or put together of headers and a body.

    `at` is when it arrived, as RFC 3339; None for now. Raises CommandError.
    """
    whole = bool(headers) and body is not None and request is None
    try:
        dump = Dump() if whole else read_dump(_read(request))
        pairs = [_pair(header) for header in headers]
        dump = dump.merged(pairs, None if body is None else _read(body))
    except UnreadableDump as error:
        raise CommandError(str(error)) from None
    given = [Known(secret, "--secret") for secret in secrets]
    own = _own_secrets(required=not given)
    arrived = now if at is None else datetime.fromisoformat(at).timestamp()
    return diagnose(dump, given or own, own if given else (), now=arrived)


def _read(path: Path | None) -> bytes:
    if path is None or str(path) == "-":
        if sys.stdin.isatty():
            click.echo("Paste the request (headers, an empty line, the body), then press Ctrl-D:", err=True)
        return sys.stdin.buffer.read(MAX_DUMP + 1)
    try:
        with path.open("rb") as file:
            return file.read(MAX_DUMP + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None


def _pair(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"-H {header!r} is no header: write 'name: value'")
    return name.strip(), value.strip()


def _own_secrets(*, required: bool) -> list[Known]:
    """Those of the service in this directory; none are made for the purpose."""
    from pipeline.safety import resolve_secrets

    settings = settings_or_exit()
    kept = settings.data_dir / "secrets"
    source = "WEBHOOK_SECRET" if settings.webhook_secret else f"WEBHOOK_SECRET in {kept}"
    if not settings.webhook_secret and not kept.exists():
        return []
    if not required:
        try:
            return [Known(secret, f"the service's own {source}") for secret in resolve_secrets(settings).webhook]
        except ValueError:
            return []
    with guarded():
        return [Known(secret, source) for secret in resolve_secrets(settings).webhook]


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """The findings for people, and what they come to."""
    lines = [f"  {each.part:<9}  {_MARKS[each.right]:<5}  {each.detail}" for each in diagnosis.findings]
    if diagnosis.verifies:
        end = "It verifies."
    elif diagnosis.wrong:
        end = f"It does not verify: look at {' and '.join(diagnosis.wrong)}."
    else:
        end = "It does not verify, and no known mistake explains it: most likely key or body are others."
    return "\n".join([*lines, "", end])


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The findings for programs."""
    found = [asdict(finding) for finding in diagnosis.findings]
    return {"object": "diagnosis", "verifies": diagnosis.verifies, "wrong": list(diagnosis.wrong), "data": found}
