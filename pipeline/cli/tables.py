"""Lists of the API as tables for people. Pure: widths and the time are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cli.words import parse_time, span_text, stage_text

Json = Mapping[str, Any]

CUT = "…"
LEAST = 20
"""Characters that the last column keeps on the narrowest terminal."""


def table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Columns side by side, None as `-`; the last is cut so that a line has at most `width` characters."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    room = None if width is None else max(LEAST, width - sum(widths) - 2 * len(widths))
    lines = []
    for row in cells:
        last = row[-1] if room is None or len(row[-1]) <= room else row[-1][: room - 1] + CUT
        shown = [f"{text:<{size}}" for text, size in zip(row, widths, strict=False)]
        lines.append("  ".join([*shown, last]).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    """One line of printable text: prompts and the words of strangers must not steer the terminal."""
    text = "-" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)


def age(at: str | None, now: float) -> str | None:
    """How long ago one of the API's times was."""
    return None if at is None else span_text(max(0.0, now - parse_time(at)))


def generations_table(generations: Sequence[Json], now: float, width: int | None = None) -> str:
    """A page of generations. `now` is Unix seconds."""
    rows = [
        (
            g["id"],
            stage_text(g)
            if g.get("progress") is None or g["status"] != "processing"
            else f"{stage_text(g)} {g['progress']}%",
            g["provider"],
            g.get("userId"),
            age(g["createdAt"], now),
            _took(g),
            g["prompt"] if not g.get("error") else f"{g['error']['code']}: {g['prompt']}",
        )
        for g in generations
    ]
    return table(("ID", "STATE", "PROVIDER", "USER", "AGE", "TOOK", "PROMPT"), rows, width)


def _took(generation: Json) -> str | None:
    start, end = generation["createdAt"], generation.get("completedAt")
    return None if end is None else span_text(parse_time(end) - parse_time(start))


def dead_table(letters: Sequence[Json], now: float, width: int | None = None) -> str:
    """A page of dead letters. `now` is Unix seconds."""
    rows = [
        (
            letter["id"],
            letter["error"]["code"],
            age(letter["diedAt"], now),
            letter["attempts"],
            letter["lane"],
            letter["error"]["message"],
        )
        for letter in letters
    ]
    return table(("ID", "ERROR", "DIED", "TRIES", "LANE", "MESSAGE"), rows, width)


def groups_table(groups: Sequence[Json], now: float, width: int | None = None) -> str:
    """Dead letters by what they have in common. `now` is Unix seconds."""
    rows = [
        (
            group["count"],
            group["kind"],
            group["errorCode"],
            group["lane"],
            age(group["newest"], now),
            age(group["oldest"], now),
            group["sample"],
        )
        for group in groups
    ]
    return table(("COUNT", "KIND", "ERROR", "LANE", "NEWEST", "OLDEST", "FOR EXAMPLE"), rows, width)


def deliveries_table(deliveries: Sequence[Json], now: float, width: int | None = None) -> str:
    """A page of deliveries. `now` is Unix seconds."""
    rows = [
        (
            each["id"],
            each["state"],
            each["type"],
            each["generation"],
            age(each["createdAt"], now),
            each["attemptCount"],
            each["url"] if each["lastError"] is None or each["state"] == "delivered" else each["lastError"],
        )
        for each in deliveries
    ]
    return table(("ID", "STATE", "EVENT", "GENERATION", "AGE", "TRIES", "WHERE OR WHY NOT"), rows, width)
