"""The table of drills: a row for each, as Markdown, so that it can be pasted into a document as it is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.drill.evidence import Evidence
from pipeline.drill.rules import Violation
from pipeline.drill.verdict import at_once, charged_twice, missing
from pipeline.lifecycle import GenerationStatus

HEADINGS = (
    "run",
    "generations",
    "kills",
    "stops",
    "completed",
    "unknown",
    "failed",
    "charged twice",
    "lost",
    "told twice",
    "most at once / cap",
    "refused writes",
    "takeover s",
    "seconds",
    "violations",
)


@dataclass(frozen=True, slots=True)
class Result:
    """A drill that was run: what it is called, what was seen, what was wrong."""

    name: str
    evidence: Evidence
    violations: Sequence[Violation]


def row(result: Result) -> tuple[str, ...]:
    """One drill, by HEADINGS. `unknown` are those that failed since nobody could say whether they were paid."""
    seen = result.evidence
    ends = Counter(_end(generation) for generation in seen.generations)
    worst = max(seen.blows.takeovers, default=None)
    return (
        result.name,
        str(len(seen.generations)),
        str(seen.blows.kills),
        str(seen.blows.stops + len(seen.zombies)),
        str(ends["completed"]),
        str(ends["unknown"]),
        str(ends["failed"]),
        str(len(charged_twice(seen))),
        str(len(missing(seen))),
        str(sum(violation.name in {"told_twice", "ended_twice"} for violation in result.violations)),
        f"{at_once(seen)} / {seen.plan.in_flight}",
        str(seen.logs.lost.total()),
        "-" if worst is None else f"{worst:.1f}",
        f"{seen.seconds:.0f}",
        ", ".join(sorted({violation.name for violation in result.violations})) or "none",
    )


def _end(generation: Mapping[str, object]) -> str:
    if generation["status"] == GenerationStatus.FAILED and generation["error_code"] == "submit_unknown":
        return "unknown"
    return str(generation["status"])


def table(results: Sequence[Result]) -> str:
    """All drills, one line each."""
    rows = [HEADINGS, *map(row, results)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def complaints(result: Result, most: int = 20) -> str:
    """What was wrong, a line for each violation; of very many only the first."""
    lines = [f"  {found.name}: {found.generation} {found.words}".replace("  ", " ") for found in result.violations]
    more = [f" ... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])
