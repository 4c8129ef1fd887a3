"""Prometheus' text format, version 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). Pure.

Written here and not by a client library: the figures are sums over rows of many processes, not counters of this one, so
that of a library only these lines would be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.statistics.metric import INFINITE, Cell, Metric, text_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: labels and value; a histogram's value is a cell."""

    metric: Metric
    labels: Mapping[str, str]
    value: float | Cell


def write_text(samples: Iterable[Sample], known: Iterable[Metric] = ()) -> str:
    """All samples, by metric. Of `known` those without labels are written as 0 where no sample is."""
    found: dict[str, list[Sample]] = {}
    metrics: dict[str, Metric] = {}
    for sample in samples:
        metrics[sample.metric.name] = sample.metric
        found.setdefault(sample.metric.name, []).append(sample)
    for metric in known:
        if metric.name not in metrics and not metric.labels:
            metrics[metric.name] = metric
            found[metric.name] = [Sample(metric, {}, Cell() if metric.kind == "histogram" else 0.0)]
    lines = []
    for name in sorted(metrics):
        lines += [f"# HELP {name} {_escaped(metrics[name].help)}", f"# TYPE {name} {metrics[name].kind}"]
        for sample in found[name]:
            lines += _lines(sample)
    return "".join(f"{line}\n" for line in lines)


def _lines(sample: Sample) -> list[str]:
    name, labels, value = sample.metric.name, sample.labels, sample.value
    if not isinstance(value, Cell):
        return [f"{name}{_braces(labels)} {text_of(value)}"]
    if sample.metric.kind != "histogram":
        return [f"{name}{_braces(labels)} {text_of(value.total)}"]
    lines, so_far = [], 0
    for bound in _bounds(sample.metric, value):
        so_far += value.buckets.get(bound, 0)
        lines.append(f"{name}_bucket{_braces({**labels, 'le': bound})} {so_far}")
    return [
        *lines,
        f"{name}_sum{_braces(labels)} {text_of(value.total)}",
        f"{name}_count{_braces(labels)} {value.count}",
    ]


def _bounds(metric: Metric, cell: Cell) -> list[str]:
    """Those of the metric, and those that rows of an older version have, in order; the endless one last."""
    texts = {text_of(bound) for bound in metric.bounds} | cell.buckets.keys()
    return [*sorted(texts - {INFINITE}, key=float), INFINITE]


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return f"{{{inner}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
