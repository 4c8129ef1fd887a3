"""Write the parts of docs/ that are made from the code: `.venv/bin/python scripts/docs.py`.

A made part stands between `<!-- made: NAME -->` and `<!-- /made -->`; a test compares each with what this makes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.api.openapi import OPERATIONS, WEBHOOKS  # noqa: E402
from pipeline.api.openapi.common import STATUS  # noqa: E402
from pipeline.api.problems import TITLES  # noqa: E402
from pipeline.lifecycle import MOVES, STAGE_OF_STEP, TERMINAL, GenerationStatus, Stage, Step  # noqa: E402
from scripts import offers  # noqa: E402
from scripts.events import events_table, metrics_table  # noqa: E402
from webhooks.events import DEFAULT, EventType  # noqa: E402

PART = re.compile(r"(<!-- made: (?P<name>[a-z_-]+) -->\n).*?(<!-- /made -->)", re.DOTALL)
_SETTING = re.compile(r"(?:# )?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)\Z")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    lines = [list(head), *[list(row) for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: str) -> str:
    """As code, or nothing."""
    return f"`{text}`" if text else ""


def settings() -> str:
    """Every setting of `.env.example`, under its headings; those that share an explanation share a row."""
    made = ""
    for section in re.split(r"^# --- ", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)[1:]:
        head, _, rest = section.partition("\n")
        made += f"### {head.rstrip('- ')}\n\n" + table(("setting", "default", "what it does"), _rows(rest)) + "\n"
    return made.removesuffix("\n")


def _rows(section: str) -> list[list[str]]:
    """A comment belongs to all settings that follow it up to the next comment or empty line."""
    rows: list[list[str]] = []
    words: list[str] = []
    names: list[tuple[str, str]] = []

    def close() -> None:
        if names:
            columns = zip(*((code(name), code(value) or "-") for name, value in names), strict=True)
            rows.append([*("<br>".join(column) for column in columns), " ".join(words)])
        words.clear()
        names.clear()

    for line in section.splitlines():
        if found := _SETTING.match(line):
            names.append((found["name"], found["value"]))
            continue
        if names or not line:
            close()
        if line:
            words.append(line.removeprefix("# "))
    close()
    return rows


def problems() -> str:
    """Every code of a problem."""
    rows = ([code(name), str(STATUS.get(name, "")), title] for name, title in TITLES.items())
    return table(("code", "status", "meaning"), rows)


def operations() -> str:
    """Every operation of the API."""
    rows = (
        [
            code(f"{o.method} {o.path}"),
            o.summary,
            (str(o.scope) if o.scope else "none") + (", or a read token" if o.token else ""),
        ]
        for o in OPERATIONS
    )
    return table(("operation", "what it is for", "scope of the key"), rows)


def parameters() -> str:
    """What a list can be narrowed by."""
    (listing,) = (o for o in OPERATIONS if (o.method, o.path) == ("GET", "/api/generations"))
    return table(("parameter", "meaning"), ([code(p.name), p.description] for p in listing.parameters))


def event_types() -> str:
    """Every type of event that is sent."""
    rows = (
        [code(kind), WEBHOOKS[kind].removesuffix(" (opt-in)"), "yes" if kind in DEFAULT else "if asked for"]
        for kind in EventType
        if kind in WEBHOOKS
    )
    return table(("type", "when", "sent"), rows)


def moves() -> str:
    """The picture of a generation's statuses."""
    lines = [f"    [*] --> {GenerationStatus.QUEUED}"]
    lines += [f"    {now} --> {then}" for now, allowed in MOVES.items() for then in GenerationStatus if then in allowed]
    lines += [f"    {status} --> [*]" for status in GenerationStatus if status in TERMINAL]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


def stages() -> str:
    """What a client sees while a job is at a step."""
    shown = {stage: [step for step, of in STAGE_OF_STEP.items() if of is stage] for stage in Stage}
    meanings = {
        Stage.WAITING: "it waits for its turn, for its provider to be open again, or for money (`waiting.spend`)",
        Stage.SUBMITTING: "the provider is being asked; this is the call that may cost money",
        Stage.GENERATING: "the provider works, and is asked now and then how far it is",
        Stage.HELD: "nobody can tell yet whether the paid call was taken; it is being found out",
        Stage.STORING: "the video is downloaded, verified and put into storage",
    }
    rows = ([code(stage), ", ".join(map(code, steps)), meanings[stage]] for stage, steps in shown.items())
    return table(("stage", "step of the job", "meaning"), rows)


def steps() -> str:
    """The steps of a job, by name."""
    return ", ".join(code(step) for step in Step) + "\n"


def events() -> str:
    """Every named event."""
    return table(("event", "meaning", "level", "fields", "metrics", "span"), events_table())


def metrics() -> str:
    """Every metric."""
    return table(("metric", "type", "labels", "meaning", "source"), metrics_table())


def providers() -> str:
    """Every provider."""
    return table(offers.OVERVIEW, offers.overview())


def models(provider: str) -> str:
    """Every model of one provider."""
    return table(offers.OF_A_MODEL, offers.models(provider)) + offers.told_of(provider)


PARTS: dict[str, Callable[[], str]] = {
    "events": events,
    "metrics": metrics,
    "providers": providers,
    **{f"models-{name}": partial(models, name) for name in offers.REAL},
    "settings": settings,
    "problems": problems,
    "operations": operations,
    "parameters": parameters,
    "event-types": event_types,
    "moves": moves,
    "stages": stages,
    "steps": steps,
}


def remade(text: str) -> str:
    """The document with its made parts anew. Raises KeyError for a part that nobody makes."""
    return PART.sub(lambda found: found[1] + PARTS[found["name"]]() + found[3], text)


def main() -> None:
    """Write every document whose made parts have changed."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        before = path.read_text()
        if (after := remade(before)) != before:
            path.write_text(after)
            print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
