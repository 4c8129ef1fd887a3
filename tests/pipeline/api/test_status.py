"""Is it well, and what is waiting."""

from __future__ import annotations

import pytest

from tests.house import eventually, open_house

pytestmark = pytest.mark.anyio


async def test_a_process_that_answers_is_alive(house):
    response = await house.api.get("/healthz")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


async def test_without_a_worker_it_is_not_ready_and_says_what_to_start(house):
    response = await house.api.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "ok"
    assert "dailies worker" in response.json()["checks"]["worker"]


async def test_it_is_ready_with_a_worker_and_not_with_an_old_schema(tmp_path):
    async with open_house(tmp_path) as house:
        ready = await eventually(lambda: house.api.get("/readyz"), lambda answer: answer.status_code == 200, 5)
        assert ready.json() == {"status": "ready", "checks": {"database": "ok", "worker": "ok"}}
        (worker,) = (await house.api.get("/api/queue/status")).json()["workers"]
        assert worker["id"] == house.plant.identity.id

        await house.plant.db.write(lambda tx: tx.run("UPDATE alembic_version SET version_num = '0000'"))
        behind = await house.api.get("/readyz")
        assert behind.status_code == 503
        assert "dailies migrate" in behind.json()["checks"]["database"]

        await house.plant.db.write(lambda tx: tx.run("DROP TABLE alembic_version"))
        empty = await house.api.get("/readyz")
        assert empty.status_code == 503
        assert "SELECT" not in empty.text


async def test_the_queue_is_counted(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        before = (await house.api.get("/api/queue/status")).json()
        assert before["oldestWaitingSeconds"] is None
        for _ in range(3):
            made = await house.submit("x")
        await house.api.post(f"/api/generations/{made['id']}/cancel")
        status = (await house.api.get("/api/queue/status")).json()
        assert status["object"] == "queue"
        assert status["generations"]["byStatus"] == {"waiting": 2, "pending": 0, "processing": 0, "dead": 0}
        await house.plant.statistics.flush()
        status = (await house.api.get("/api/queue/status")).json()
        assert (status["lastHour"]["cancelled"], status["lastHour"]["completed"]) == (1, 0)
        assert status["lastHour"]["successRate"] is None
        assert status["deliveries"]["byStatus"]["pending"] == 1
        assert status["oldestWaitingSeconds"] >= 0
        assert status["workers"] == []
        assert (status["held"], before["held"]) == (0, 0)
