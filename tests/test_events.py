"""One table of events: what the documents say, what the code tells, and what figures are made of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipeline.statistics import catalog
from pipeline.telemetry import EVENTS
from pipeline.traces import SPANS
from scripts.docs import remade
from scripts.events import ELSEWHERE, _calls, _name_of, told

DOCUMENT = Path(__file__).parent.parent / "docs" / "events.md"
TOLD = told()


def test_the_document_is_what_the_code_makes():
    assert DOCUMENT.read_text() == remade(DOCUMENT.read_text()), "run `.venv/bin/python scripts/docs.py`"


def test_every_event_is_told_somewhere_and_no_other():
    assert sorted(TOLD) == sorted(EVENTS)


def test_events_with_fields_from_elsewhere_are_named():
    splats = {
        call.args[0].value
        for call, _ in _calls()
        if _name_of(call) == "emit"
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and any(word.arg is None for word in call.keywords)
    }
    assert splats - {"money.unrecorded"} == set(ELSEWHERE)


@pytest.mark.parametrize("event", catalog.RULES)
def test_a_metric_is_made_only_of_fields_that_the_event_has(event):
    for rule in catalog.RULES[event]:
        labels = {rule.labels.get(label, label) for label in rule.metric.labels}
        needed = {name for name in labels if not name.startswith("=")} | set(rule.when)
        needed |= {rule.value} if rule.value else set()
        assert needed <= set(TOLD[event].fields), rule.metric.name
        assert set(rule.labels) <= set(rule.metric.labels)
        assert set(rule.words) <= set(rule.metric.labels)


def test_rules_and_spans_are_of_events_that_exist():
    assert set(catalog.RULES) <= set(EVENTS)
    assert set(SPANS) <= set(EVENTS)


def test_no_two_metrics_share_a_name():
    metrics = {id(rule.metric): rule.metric.name for rules in catalog.RULES.values() for rule in rules}
    assert len(set(metrics.values())) == len(metrics)
