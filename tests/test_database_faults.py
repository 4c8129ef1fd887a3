"""Database faults in their short form: real processes under a steady load. The long form is `make faults`."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from pipeline.db import Database
from pipeline.db.migrate import migrate
from pipeline.drill.plan import Plan
from tests.faults.breaking import (
    end_backends,
    exhaust,
    forbid_growth,
    hold_rows,
    lose_commits,
    refuse_rows,
    restart,
    storm,
)
from tests.faults.catalogue import Fault
from tests.faults.measuring import measure, table, wrong
from tests.faults.stage import open_stage
from tests.pipeline.engines import start_postgres

pytestmark = pytest.mark.anyio

PLAN = Plan(seed=1, recovery="none", workers=1, in_flight=100, lease=3.0, submit_timeout=6.0, speed=60.0)
SHORT = {"rate": 4.0, "quiet": 1.5, "seconds": 1.5, "most": 8}
"""Too short to compare throughputs: what is asked here is that all goes on and nothing is wrong."""


def migrated(file: Path) -> str:
    file.parent.mkdir(parents=True)
    db = Database(f"sqlite:///{file}")
    migrate(db.engine)
    db.close()
    return f"sqlite:///{file}"


async def test_on_sqlite_no_storm_of_locks_and_no_failing_disk_costs_more_than_time(tmp_path):
    faults = [Fault("busy storm", storm, 3.0), Fault("files cannot grow", forbid_growth)]
    url = migrated(tmp_path / "disk" / "dailies.db")
    async with open_stage(tmp_path, tmp_path / "disk", PLAN, url) as stage:
        report = await measure(stage, faults, **SHORT)
    print("\n" + table([report]))
    assert wrong(report, share=0.0) == []
    assert set(report.ends) == {"completed"}


async def test_on_postgres_nothing_that_happens_to_a_server_costs_more_than_time(tmp_path):
    faults = [
        Fault("restart", restart),
        Fault("backends ended", end_backends),
        Fault("no connection left", exhaust),
        Fault("COMMITs lost", lose_commits),
        Fault("rows held, idle", hold_rows, 3.0),
        Fault("INSERTs refused", refuse_rows),
    ]
    server = start_postgres()
    (tmp_path / "logs").mkdir()
    try:
        url = server.url(server.create("dailies_template"))
        async with open_stage(tmp_path, tmp_path / "logs", PLAN, url, server=server) as stage:
            report = await measure(stage, faults, **SHORT)
    finally:
        server.stop()
        shutil.rmtree(server.folder)
    print("\n" + table([report]))
    assert wrong(report, share=0.0) == []
    assert set(report.ends) == {"completed"}


async def test_a_moment_between_two_locks_of_another_process_is_enough(tmp_path):
    url = migrated(tmp_path / "disk" / "dailies.db")
    db, over = Database(url), threading.Event()

    def lock_again_and_again() -> None:
        other = sqlite3.connect(tmp_path / "disk" / "dailies.db", isolation_level=None, timeout=10)
        while not over.is_set():
            other.execute("BEGIN IMMEDIATE")
            over.wait(0.15)
            other.execute("ROLLBACK")
            time.sleep(0.006)
        other.close()

    locking = asyncio.create_task(asyncio.to_thread(lock_again_and_again))
    try:
        waits = []
        for _ in range(8):
            began = time.monotonic()
            await db.write(lambda tx: tx.run("UPDATE lane SET unknown_streak = 0"))
            waits.append(time.monotonic() - began)
    finally:
        over.set()
        await locking
        db.close()
    assert max(waits) < 1.5, waits
