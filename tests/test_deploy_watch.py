"""The dashboard and the alerts ask only for what /metrics has, with labels that it has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from pipeline.statistics import catalog, gauges
from pipeline.statistics.metric import Metric

DEPLOY = Path(__file__).parent.parent / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "dailies.json").read_text())

KNOWN: dict[str, Metric] = catalog.COUNTED | {
    metric.name: metric for metric in (*gauges.FROM_DATABASE, *gauges.FROM_PROCESSES)
}
PIECES = {"_bucket": {"le"}, "_sum": set(), "_count": set()}
FUNCTIONS = {"absent", "delta", "histogram_quantile", "increase", "max", "min", "rate", "sum"}
_SELECTOR = re.compile(r"\b(?P<name>(?:dailies|process)_[a-z0-9_]+)(?:\{(?P<labels>[^}]*)\})?")
_PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
_RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = [(rule["alert"], rule["expr"]) for rule in _RULES] + [
    (panel["title"], target["expr"]) for panel in _PANELS for target in panel["targets"]
]


def labels_of(name: str) -> set[str]:
    """The labels that a series of this name has; fails for one that nobody writes."""
    if name in KNOWN and KNOWN[name].kind != "histogram":
        return set(KNOWN[name].labels)
    for piece, more in PIECES.items():
        base = name.removesuffix(piece)
        if base != name and base in KNOWN and KNOWN[base].kind == "histogram":
            return set(KNOWN[base].labels) | more
    raise AssertionError(f"/metrics has no {name}")


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_asks_for_series_and_labels_that_exist(title, query):
    selectors = list(_SELECTOR.finditer(query))
    assert selectors, title
    every = set.union(*(labels_of(found["name"]) for found in selectors))
    for found in selectors:
        named = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found["labels"] or ""))
        assert named <= labels_of(found["name"]), found[0]
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in group.split(",")} <= every, query


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_is_well_formed(title, query):
    bare = re.sub(r'"[^"]*"', "", query)
    stack = []
    for letter in bare:
        if letter in "([{":
            stack.append(letter)
        elif letter in ")]}":
            assert stack, query
            assert stack.pop() + letter in {"()", "[]", "{}"}, query
    assert stack == [], query
    called = set(re.findall(r"\b([a-z_]+)\s*\(", re.sub(r"\bby \(", "", bare)))
    assert called <= FUNCTIONS, query
    for counted in re.findall(r"\b(?:rate|increase)\((\w+)", query):
        base = re.sub(r"_(bucket|sum|count)$", "", counted)
        metric = KNOWN.get(counted) or KNOWN[base]
        assert metric.kind in {"counter", "histogram"}, f"{counted} can fall"


def test_alerts_say_what_happens_and_how_urgent_it_is():
    names = [rule["alert"] for rule in _RULES]
    assert len(set(names)) == len(names)
    for rule in _RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert {"summary", "description"} <= rule["annotations"].keys(), rule["alert"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s")), rule["alert"]


def test_the_words_of_alerts_use_labels_that_the_alert_has():
    for rule in _RULES:
        words = " ".join(rule["annotations"].values())
        used = set(re.findall(r"\$labels\.(\w+)", words))
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        assert used <= kept, rule["alert"]


def test_panels_fit_on_the_page_and_have_ids_of_their_own():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_group_that_was_asked_for_is_on_the_page():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Queue", "Processing", "Providers", "Webhooks", "Money", "Storage, API and processes"]
