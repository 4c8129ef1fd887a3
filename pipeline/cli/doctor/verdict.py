"""What a check of `doctor` ends in. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and if it is not well what would mend it."""

    name: str
    verdict: Verdict
    found: str
    mend: str | None = None

    def __post_init__(self) -> None:
        if (self.mend is None) != (self.verdict is Verdict.OK):
            raise ValueError("whatever is not well needs its mend, and nothing else does")


def ok(name: str, found: str) -> Check:
    """It is as it should be."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, mend: str) -> Check:
    """It works, or may do so; somebody should know."""
    return Check(name, Verdict.WARNING, found, mend)


def failure(name: str, found: str, mend: str) -> Check:
    """It does not work, or is not safe."""
    return Check(name, Verdict.FAILURE, found, mend)


def report_text(checks: list[Check]) -> str:
    """All checks for people: what is well in a line, what is not with its mend, and the count."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.verdict:<7}  {check.name:<{width}}  {check.found}")
        if check.mend is not None:
            lines.append(f"{'':<7}  {'':<{width}}  mend: {check.mend}")
    return "\n".join([*lines, "", _count(checks)])


def _count(checks: list[Check]) -> str:
    counts = {verdict: sum(check.verdict is verdict for check in checks) for verdict in Verdict}
    words = {Verdict.OK: "ok", Verdict.WARNING: "to look at", Verdict.FAILURE: "to mend"}
    return ", ".join(f"{count} {words[verdict]}" for verdict, count in counts.items() if count)
