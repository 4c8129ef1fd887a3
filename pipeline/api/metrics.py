"""`GET /metrics` for Prometheus: counters summed over all processes, and gauges as the tables have them now.

Every process gives the same answer, so one address is scraped, not each: sums over several targets would count
everything several times.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from pipeline import __version__, admission, queue, statistics
from pipeline.admission.shares import is_user
from pipeline.api.auth import require, service_of
from pipeline.api.problems import Problem
from pipeline.api.queue_status import RUNNING, held, oldest_waiting, workers
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.spending import Bound, Caps, Money, Purse
from pipeline.statistics import Sample, catalog, gauges, rows
from pipeline.statistics.exposition import CONTENT_TYPE, write_text
from pipeline.statistics.metric import OTHER

MICROS = 1_000_000
ENDPOINTS = "endpoints"
"""All lanes of receivers as one: their number is not ours to bound."""


async def metrics(request: Request) -> Response:
    """Prometheus' text format. For the operator: an API_KEY, or this machine while there are no keys."""
    caller = await require(request, Scope.ADMIN)
    if not caller.operator:
        raise Problem(403, "forbidden", "metrics are of the whole service: this needs a key of API_KEY")
    service = service_of(request)
    samples = await service.db.read(lambda tx: collect(tx, service.purse.caps))
    text = await asyncio.to_thread(write_text, samples, catalog.COUNTED.values())
    return Response(text, media_type=CONTENT_TYPE)


def collect(tx: Tx, caps: Caps) -> list[Sample]:
    """Every figure, from one snapshot."""
    groups = queue.stats(tx)
    return [
        *_counted(tx),
        *(Sample(metric, key.labels(), value) for key, value in rows.gauges(tx) if (metric := _SAID.get(key.name))),
        *_of_jobs(groups),
        *_of_times(tx, groups),
        *_of_lanes(tx, groups),
        *_of_money(tx),
        *_of_today(tx, caps),
        Sample(gauges.SHORT, {}, admission.unfunded(tx)),
        Sample(gauges.WORKERS, {}, len(workers(tx))),
        Sample(gauges.BUILD, {"version": __version__}, 1),
    ]


def _counted(tx: Tx) -> list[Sample]:
    counted = [
        Sample(catalog.COUNTED[key.name], key.labels(), cell)
        for key, cell in statistics.totals(tx).items()
        if key.name in catalog.COUNTED
    ]
    there = {(sample.metric.name, sample.labels.get("step")) for sample in counted}
    return counted + [
        Sample(metric, {"step": step}, 0.0)
        for metric in catalog.BY_STEP
        for step in catalog.STEPS
        if (metric.name, step) not in there
    ]


_SAID = {metric.name: metric for metric in gauges.FROM_PROCESSES}


def _of_jobs(groups: list[Row]) -> list[Sample]:
    depth: dict[tuple[str, str, str], int] = {}
    dead = {"generation": 0, "delivery": 0}
    for group in groups:
        key = (group["kind"], group["status"], _lane(group["lane"]))
        depth[key] = depth.get(key, 0) + group["jobs"]
        if group["status"] == "dead":
            dead[group["kind"]] += group["jobs"]
    return [
        *(
            Sample(gauges.JOBS, {"kind": kind, "status": status, "lane": lane}, jobs)
            for (kind, status, lane), jobs in depth.items()
        ),
        *(Sample(gauges.DEAD, {"kind": kind}, jobs) for kind, jobs in dead.items()),
        Sample(gauges.HELD, {}, held(groups)),
    ]


def _lane(name: str) -> str:
    kind, _, rest = name.partition(":")
    return rest if kind == "provider" else ENDPOINTS if kind == "endpoint" else OTHER


def _of_times(tx: Tx, groups: list[Row]) -> list[Sample]:
    due = dict.fromkeys((*sorted(RUNNING), "deliver"), 0.0)
    for group in groups:
        if group["status"] == "pending" and group["step"] in due:
            due[group["step"]] = max(due[group["step"]], (tx.now - group["oldest_due"]) / 1000)
    return [
        Sample(gauges.OLDEST, {}, oldest_waiting(tx, groups) or 0.0),
        *(Sample(gauges.OLDEST_DUE, {"step": step}, seconds) for step, seconds in due.items()),
    ]


def _of_lanes(tx: Tx, groups: list[Row]) -> list[Sample]:
    known = [row for row in admission.lanes(tx) if not is_user(row["name"])]
    paused = [row["name"] for row in known if (row["paused_until"] or 0) > tx.now]
    flying: dict[str, int] = {_lane(row["name"]): 0 for row in known if row["name"].startswith("provider:")}
    for group in groups:
        if group["step"] in RUNNING and group["status"] in {"pending", "processing"}:
            flying[_lane(group["lane"])] = flying.get(_lane(group["lane"]), 0) + group["jobs"]
    return [
        Sample(gauges.LANES_PAUSED, {}, len(paused)),
        *(
            Sample(gauges.PAUSED, {"lane": _lane(row["name"])}, int(row["name"] in paused))
            for row in known
            if row["name"].startswith("provider:")
        ),
        *(Sample(gauges.IN_FLIGHT, {"lane": lane}, jobs) for lane, jobs in flying.items()),
    ]


def _of_money(tx: Tx) -> list[Sample]:
    found = dict.fromkeys(("intended", "accepted", "unknown"), (0, 0))
    for row in tx.all(
        "SELECT outcome, count(*) AS calls, sum(estimate_micros) AS micros FROM submission"
        " WHERE outcome IN ('intended', 'accepted', 'unknown') GROUP BY outcome"
    ):
        found[row["outcome"]] = (row["calls"], int(row["micros"]))
    return [
        sample
        for outcome, (calls, micros) in found.items()
        for sample in (
            Sample(gauges.OPEN, {"outcome": outcome}, calls),
            Sample(gauges.OPEN_COST, {"outcome": outcome}, micros / MICROS),
        )
    ]


def _of_today(tx: Tx, caps: Caps) -> list[Sample]:
    """Today's money and its caps: of every provider, and of the service as its cap counts."""
    money, found = Money(tx, Purse(caps)), []
    spent = {name: money.of_provider(name) for name in money.providers()}
    whole = sum(micros for name, micros in spent.items() if caps.service is None or caps.counts(caps.service, name))
    for scope, name, micros, cap in (
        *((Bound.PROVIDER, name, micros, caps.of_provider(name)) for name, micros in spent.items()),
        (Bound.SERVICE, "all", whole, caps.service),
    ):
        labels = {"scope": scope, "name": name}
        found.append(Sample(gauges.SPENT, labels, micros / MICROS))
        if cap is not None and (scope is Bound.SERVICE or caps.counts(cap, name)):
            found.append(Sample(gauges.CAP, labels, cap.micros / MICROS))
    return found
