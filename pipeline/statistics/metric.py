"""What a metric is, and how an event becomes a number in it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

OTHER = "other"
"""What a value is called that is not one of those expected: labels are closed sets."""

INFINITE = "+Inf"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure by Prometheus' conventions: base units, `_total` for counters.

    Args:
        bounds: upper ends of a histogram's buckets, in its unit; one without end follows them.
        only: the values that a label may have; others count as `other`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    only: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One event feeds one metric.

    Args:
        value: the field that is added or observed; None counts the event itself.
        scale: what the field is multiplied with to be in the metric's unit.
        labels: label -> field, or `=word` for a constant.
        words: label -> what the field's values are called in it.
        when: field -> values; the rule is for events that have one of them in each. `*` is any value.
    """

    metric: Metric
    value: str | None = None
    scale: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    when: Mapping[str, Collection[str]] = field(default_factory=dict)

    def amount(self, fields: Mapping[str, Any]) -> float | None:
        """What the event adds, or None if it is not for this metric."""
        for name, values in self.when.items():
            if name not in fields or (values != "*" and str(fields[name]) not in values):
                return None
        if self.value is None:
            return 1.0
        found = fields.get(self.value)
        return float(found) * self.scale if isinstance(found, int | float) else None

    def values(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """The label values, in the order of the metric's labels."""
        return tuple(self._label(name, fields) for name in self.metric.labels)

    def _label(self, name: str, fields: Mapping[str, Any]) -> str:
        source = self.labels.get(name, name)
        if source.startswith("="):
            return source[1:]
        found = str(fields.get(source, OTHER))
        words = self.words.get(name)
        if words is not None:
            return words.get(found, OTHER)
        allowed = self.metric.only.get(name)
        return found if allowed is None or found in allowed else OTHER


@dataclass(slots=True)
class Cell:
    """A sum under way: how often, how much, and how often up to each bound (bounds as text; not cumulative)."""

    count: int = 0
    total: float = 0.0
    buckets: dict[str, int] = field(default_factory=dict)

    def add(self, amount: float, metric: Metric) -> None:
        """One observation, or an increment."""
        self.count += 1
        self.total += amount
        if metric.kind == "histogram":
            at = bisect_left(metric.bounds, amount)
            bound = text_of(metric.bounds[at]) if at < len(metric.bounds) else INFINITE
            self.buckets[bound] = self.buckets.get(bound, 0) + 1

    def merge(self, other: Cell) -> None:
        """Add another sum to this one."""
        self.count += other.count
        self.total += other.total
        for bound, count in other.buckets.items():
            self.buckets[bound] = self.buckets.get(bound, 0) + count


def text_of(number: float) -> str:
    """A number as Prometheus and our rows write it: 0.5, 10, 1.5e+06."""
    return f"{number:.12g}"
