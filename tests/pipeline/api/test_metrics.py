"""`/metrics`: for the operator, in a format that Prometheus' own parser reads, with figures that are true."""

from __future__ import annotations

import os
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import credentials
from pipeline.credentials import Scope
from pipeline.statistics import Sample, catalog, gauges, write_text
from pipeline.statistics.metric import Cell, Metric
from tests.house import eventually, open_house

pytestmark = pytest.mark.anyio

KEY = "an operator's key"
CEILING = 2_000
"""Series of one small service: labels are closed sets."""


async def scrape(house) -> dict[str, float]:
    """Every sample by its line's name and labels."""
    answer = await house.api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples(answer.text)


def samples(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            line = f"{sample.name}{{{labels}}}"
            assert line not in found, line
            found[line] = sample.value
    return found


async def test_a_generation_is_counted_from_the_request_to_the_webhook(tmp_path):
    async with open_house(tmp_path) as house:
        made = await house.submit("a counted fox")
        await house.ended(made["id"])
        await house.webhooks(1)

        async def look():
            await house.plant.statistics.flush()
            return await scrape(house)

        line = "dailies_webhook_attempts_total{outcome=delivered,reason=answered}"
        found = await eventually(look, lambda seen: line in seen, 5)
        assert found[line] == 1
        assert found["dailies_generations_ended_total{provider=mock,status=completed}"] == 1
        assert found["dailies_submissions_opened_total{provider=mock}"] == 1
        assert found["dailies_submissions_closed_total{billed=yes,outcome=succeeded,provider=mock}"] == 1
        assert found["dailies_cost_usd_total{billed=yes,provider=mock}"] > 0
        assert found["dailies_provider_calls_total{operation=submit,outcome=ok,provider=mock}"] == 1
        assert found["dailies_provider_calls_total{operation=download,outcome=ok,provider=mock}"] == 1
        assert found["dailies_stored_bytes_total{}"] > 1000
        for phase in ("wait", "submit", "generate", "store"):
            assert found[f"dailies_generation_phase_seconds_count{{phase={phase},provider=mock}}"] == 1
        assert found["dailies_http_requests_total{method=POST,route=/api/generations,status=202}"] == 1
        assert found["dailies_workers{}"] == 1
        assert found["dailies_oldest_waiting_seconds{}"] == 0
        assert found["dailies_jobs_dead{kind=delivery}"] == 0
        assert found["dailies_database_commits_total{}"] > 3
        process = f"{house.plant.identity.host}:{house.plant.identity.pid}"
        assert found[f"process_resident_memory_bytes{{process={process}}}"] > 10_000_000
        assert found[f"dailies_spool_bytes{{process={process}}}"] >= 0
        assert len(found) < CEILING

        status = (await house.api.get("/api/queue/status")).json()["lastHour"]
        assert (status["completed"], status["successRate"]) == (1, 1)
        assert status["seconds"]["delivery"]["count"] == 1
        assert status["webhooks"] == {"sent": 1, "delivered": 1, "retried": 0, "failed": 0}


async def test_what_waits_shows_at_the_next_scrape(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        await house.submit("one")
        await house.submit("two")
        found = await scrape(house)
        assert found["dailies_jobs{kind=generation,lane=mock,status=waiting}"] == 2
        assert found["dailies_workers{}"] == 0
        assert found["dailies_turns_crashed_total{step=poll}"] == 0
        await house.plant.db.write(
            lambda tx: tx.run(
                "INSERT INTO lane (name, paused_until, unknown_streak) VALUES ('provider:mock', 99999999999999, 0)"
            )
        )
        found = await scrape(house)
        assert found["dailies_lane_paused{lane=mock}"] == 1
        assert found["dailies_lanes_paused{}"] == 1


async def test_only_the_operator_sees_metrics(tmp_path):
    async with open_house(tmp_path, work=False, api_key=KEY) as house:
        refused = await house.api.get("/metrics")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        given = await house.api.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})
        assert given.status_code == 200
        assert "dailies_build_info" in given.text


async def test_a_tenants_key_sees_its_own_counts_and_nothing_of_the_service(tmp_path):
    async with open_house(tmp_path, work=False, api_key=KEY) as house:
        _, key = await house.plant.db.write(
            lambda tx: credentials.create(tx, name="k", tenant="other", scopes=[Scope.ADMIN], random=os.urandom)
        )
        await house.api.post("/api/generations", json={"prompt": "x"}, headers={"Authorization": f"Bearer {KEY}"})
        theirs = {"Authorization": f"Bearer {key}"}
        refused = await house.api.get("/metrics", headers=theirs)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        status = (await house.api.get("/api/queue/status", headers=theirs)).json()
        assert status["generations"]["byStatus"]["waiting"] == 0
        assert status["oldestWaitingSeconds"] is None
        assert not {"lanes", "workers", "lastHour"} & {name for name, value in status.items() if value is not None}


def test_odd_labels_come_back_as_they_were():
    metric = Metric("odd_total", "counter", "A help\nwith \\ two lines.", ("name",))
    odd = 'a "quoted"\\back\nline'
    text = write_text([Sample(metric, {"name": odd}, 2.0)])
    (family,) = text_string_to_metric_families(text)
    assert family.documentation == "A help\nwith \\ two lines."
    assert family.samples[0].labels == {"name": odd}


def test_a_histogram_is_cumulative_and_ends_with_its_count():
    cell = Cell()
    for seconds in (0.3, 0.3, 7.0, 100_000.0):
        cell.add(seconds, catalog.DELIVERY)
    found = samples(write_text([Sample(catalog.DELIVERY, {}, cell)]))
    name = "dailies_webhook_delivery_seconds"
    assert found[f"{name}_bucket{{le=0.5}}"] == 2
    assert found[f"{name}_bucket{{le=10}}"] == 3
    assert found[f"{name}_bucket{{le=86400}}"] == 3
    assert found[f"{name}_bucket{{le=+Inf}}"] == found[f"{name}_count{{}}"] == 4


@pytest.mark.parametrize("metric", [*catalog.COUNTED.values(), *gauges.FROM_DATABASE, *gauges.FROM_PROCESSES])
def test_names_and_units_are_those_of_prometheus(metric):
    assert re.fullmatch(r"(dailies|process)_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert not re.search(r"_(ms|millis|minutes|kb|mb|micros)(_|$)", metric.name)
    assert metric.help.endswith(".")
    assert all(re.fullmatch(r"[a-z_]+", label) and label != "le" for label in metric.labels)
