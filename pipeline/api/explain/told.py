"""What an explanation is before it is written: a state, its sentence, what to do, and facts as fields. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.schemas import iso


@dataclass(frozen=True, slots=True)
class Told:
    """One explanation.

    Attributes:
        state: for programs; new ones may come.
        summary: what it waits for or does, in one sentence.
        to_do: what whoever reads it can do, or that nothing has to be done.
        facts: further members of the answer.
    """

    state: str
    summary: str
    to_do: str
    facts: dict[str, Any] = field(default_factory=dict)


def clock(ms: int) -> str:
    """A time for people: `2026-11-24T14:00:00Z`."""
    return f"{(iso(ms) or '')[:19]}Z"


def span(ms: float) -> str:
    """A span of milliseconds for people: `8 s`, `4 min`, `3.5 h`, `2 d`."""
    seconds = max(0.0, ms / 1000)
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= size * 2:
            return f"{seconds / size:.{1 if unit == 'h' and seconds < size * 10 else 0}f} {unit}"
    return f"{seconds:.0f} s"


def sentence(text: str | None) -> str:
    """Somebody's words with one full stop at their end."""
    return f"{(text or 'no reason was given').rstrip('. ')}."
