"""The tables of docs/events.md, read from the code: an event's level and fields, and what it feeds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.statistics import catalog, gauges
from pipeline.statistics.metric import Metric, Rule
from pipeline.telemetry import EVENTS
from pipeline.traces import SPANS

ROOT = Path(__file__).resolve().parent.parent
LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error"}
NAMES = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "generation.ended": (
        *("generation", "provider", "status", "code", "run"),
        *("wait_ms", "submit_ms", "generating_ms", "storing_ms", "total_ms"),
    ),
    "maintenance.done": (
        *("videos", "inputs", "generations", "ledger", "jobs", "events", "timeline", "callbacks"),
        *("workers", "webhook_secrets", "webhook_endpoints", "spool_files", "uploads"),
    ),
    "turn.done": ("generation", "delivery", "download_ms", "verify_ms", "upload_ms", "bytes"),
}
"""Fields that are put together before the event is told; a test sees that nothing but these is missing."""


@dataclass(slots=True)
class Told:
    """What the code says of an event."""

    levels: set[int] = field(default_factory=set)
    fields: list[str] = field(default_factory=list)

    def add(self, levels: set[int], fields: list[str]) -> None:
        """One more place where it is told."""
        self.levels |= levels
        self.fields += [name for name in fields if name not in self.fields]


def told() -> dict[str, Told]:
    """Every event that the code tells, by name."""
    found: dict[str, Told] = {}
    reported: list[str] = []
    for call, tables in _calls():
        if _name_of(call) == "Report":
            reported += _reported(call)
        elif _name_of(call) == "emit" and call.args and isinstance(call.args[0], ast.Constant):
            found.setdefault(call.args[0].value, Told()).add(_levels(call, tables), _fields(call))
    found["turn.done"].add(set(), reported)
    for name, fields in ELSEWHERE.items():
        found[name].add(set(), list(fields))
    return found


def _calls() -> Iterator[tuple[ast.Call, dict[str, ast.expr]]]:
    """Every call, with the annotated constants of its file: a level may be looked up in one."""
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        tree = ast.parse(path.read_text())
        tables = {
            node.target.id: node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield node, tables


def _name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _levels(call: ast.Call, tables: dict[str, ast.expr]) -> set[int]:
    given = next((word.value for word in call.keywords if word.arg == "level"), None)
    if given is None:
        return {20}
    named = [tables[node.id] for node in ast.walk(given) if isinstance(node, ast.Name) and node.id in tables]
    nodes = [node for tree in (given, *named) for node in ast.walk(tree)]
    numbers = {node.value for node in nodes if isinstance(node, ast.Constant) and node.value in LEVELS}
    return numbers | {NAMES[node.attr] for node in nodes if isinstance(node, ast.Attribute) and node.attr in NAMES}


def _fields(call: ast.Call) -> list[str]:
    return [word.arg for word in call.keywords if word.arg not in {None, "level", "exc_info"}]


def _reported(call: ast.Call) -> list[str]:
    given = next((word.value for word in call.keywords if word.arg == "fields"), None)
    return [key.value for key in getattr(given, "keys", ()) if isinstance(key, ast.Constant)]


def events_table() -> list[list[str]]:
    """Name, meaning, level, fields, metrics and span of every event."""
    code = told()
    return [
        [
            f"`{name}`",
            meaning,
            ", ".join(LEVELS[level] for level in sorted(code[name].levels)),
            ", ".join(f"`{fieldname}`" for fieldname in code[name].fields) or "-",
            "<br>".join(dict.fromkeys(f"`{rule.metric.name}`" for rule in catalog.RULES.get(name, ()))) or "-",
            f"`{SPANS[name]}`" if name in SPANS else "-",
        ]
        for name, meaning in EVENTS.items()
    ]


def metrics_table() -> list[list[str]]:
    """Name, type, labels, meaning and source of every metric."""
    sources: dict[str, list[str]] = {}
    for event, rules in catalog.RULES.items():
        for rule in rules:
            sources.setdefault(rule.metric.name, []).append(f"`{event}`{_of(rule)}")
    rows = [
        _metric_row(metric, "<br>".join(dict.fromkeys(sources.get(name, ["the writer's count"]))))
        for name, metric in catalog.COUNTED.items()
    ]
    rows += [_metric_row(metric, "the tables, when asked") for metric in gauges.FROM_DATABASE]
    rows += [_metric_row(metric, "each process, every ten seconds") for metric in gauges.FROM_PROCESSES]
    return rows


def _of(rule: Rule) -> str:
    return f": `{rule.value}`" if rule.value else ""


def _metric_row(metric: Metric, source: str) -> list[str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    return [f"`{metric.name}`", metric.kind, labels, metric.help, source]
