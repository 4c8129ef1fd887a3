"""What `prune` does: a round of maintenance, or a sweep for orphans, in this process."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.app import make_maintenance, open_plant
from pipeline.cli.base import CommandError
from pipeline.cli.schema import guarded
from pipeline.cli.words import json_text
from pipeline.config import Settings
from pipeline.maintenance import Orphans, Round
from pipeline.storage import StorageError
from pipeline.telemetry import configure

SHOWN = 20
"""Orphans and lost videos that are named; --json names all."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done, for people and as JSON, and what went wrong."""

    text: str
    json: str
    problem: str | None


async def prune_now(settings: Settings, *, dry_run: bool) -> Pruned:
    """A round of maintenance. Raises CommandError."""
    configure("text", "error")
    with guarded():
        async with open_plant(settings) as plant:
            return pruned(await make_maintenance(plant).run(dry_run=dry_run))


async def sweep_now(settings: Settings, *, dry_run: bool, force: bool) -> Pruned:
    """A sweep for orphans, both ways. Raises CommandError."""
    configure("text", "error")
    with guarded():
        async with open_plant(settings) as plant:
            try:
                found = await make_maintenance(plant).sweep_orphans(dry_run=dry_run, force=force)
            except StorageError as error:
                raise CommandError(str(error)) from None
            return swept(found)


def pruned(done: Round) -> Pruned:
    """A round in words. Pure."""
    counts = {kind: count for kind, count in done.counts.items() if count}
    width = max(map(len, counts), default=0)
    lines = [f"{kind.replace('_', ' '):<{width}}  {count:>9,}" for kind, count in counts.items()]
    head = "would go" if done.dry_run else "gone"
    lines = [f"{head}:", *lines] if lines else ["nothing is due"]
    if done.unfinished:
        lines.append("there is more than one round takes: run it again")
    body = {
        "object": "round",
        "dryRun": done.dry_run,
        "counts": done.counts,
        "problems": done.problems,
        "unfinished": done.unfinished,
    }
    return Pruned("\n".join(lines), json_text(body), "\n".join(done.problems) or None)


def swept(found: Orphans) -> Pruned:
    """A sweep in words. Pure."""
    size = f"{found.orphan_bytes:,} bytes"
    lines = [
        f"{found.files:,} files, of which no row owns {len(found.orphans):,} ({size}); {found.foreign:,} are not ours",
        *_some([stored.key for stored in found.orphans]),
        f"{found.videos:,} videos, of which {len(found.lost):,} have no file",
        *_some(found.lost),
    ]
    if not found.dry_run:
        lines.append(f"deleted {found.deleted:,} files, marked {found.marked:,} videos as lost")
    body = {
        "object": "orphans",
        "dryRun": found.dry_run,
        "files": found.files,
        "foreign": found.foreign,
        "orphans": [asdict(stored) for stored in found.orphans],
        "videos": found.videos,
        "lost": found.lost,
        "deleted": found.deleted,
        "marked": found.marked,
        "refused": found.refused,
    }
    return Pruned("\n".join(lines), json_text(body), found.refused)


def _some(names: list[str]) -> list[str]:
    more = [f"  and {len(names) - SHOWN:,} more (--json names all)"] if len(names) > SHOWN else []
    return [*(f"  {name}" for name in names[:SHOWN]), *more]
