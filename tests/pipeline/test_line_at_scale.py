"""Who is next is found at once however much waits. DAILIES_SCALE=1 (`make scale`) asks with 100,000 waiting, 20,000 in
flight and a million ended, and measures."""

from __future__ import annotations

import os
from statistics import median, quantiles
from time import perf_counter

import pytest

from pipeline import admission, queue
from pipeline.admission import Bounds, line
from pipeline.admission.line import MANY
from pipeline.db import Database, Tx
from pipeline.lifecycle import Step
from tests.pipeline.crowd import LANE, Crowd, settle
from tests.pipeline.engines import Place

pytestmark = pytest.mark.anyio

SCALE = os.environ.get("DAILIES_SCALE") == "1"
WAITING, IN_FLIGHT, ENDED = (100_000, 20_000, 1_000_000) if SCALE else (3_000, 600, 2_000)
USUAL_MS = 25.0
"""Asked at full size alone: the short form runs beside other tests, and sees only that nothing is read twice over."""
PLACES = Bounds(1_000_000)
KINDS = {
    "one user": Crowd(WAITING, 1, ENDED, IN_FLIGHT),
    "a thousand": Crowd(WAITING, 1_000, ENDED, IN_FLIGHT),
    "twenty thousand": Crowd(WAITING, 20_000, ENDED, IN_FLIGHT),
    "half of one": Crowd(WAITING, 1_000, ENDED, IN_FLIGHT, hog=0.5, burst=True, busy=False),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_admission_and_claim_are_quick(place: Place, kind: str) -> None:
    db = place.open()
    await db.write(KINDS[kind].fill)
    await db.write(settle)
    times = [await db.write(one_look) for _ in range(40 if SCALE else 4)]
    print(f"\n{kind}, {'PostgreSQL' if db.postgres else 'SQLite'}: {figures(times)}")
    assert not SCALE or median(times) < USUAL_MS


def figures(times: list[float]) -> str:
    return f"median {median(times):.1f} ms, p95 {quantiles(times, n=20)[-1]:.1f} ms, best {min(times):.1f} ms"


def one_look(tx: Tx) -> float:
    """Milliseconds until 32 are started and claimed."""
    began = perf_counter()
    assert admission.admit(tx, limit=32, bounds=PLACES) == 32
    assert len(queue.claim(tx, worker="w", step=Step.SUBMIT, limit=32, lease=10.0)) == 32
    return (perf_counter() - began) * 1000


UNCLEAR = """
INSERT INTO submission (id, token, generation_id, tenant_id, user_id, run, provider, outcome, carries, billed,
  estimate_micros, intended_at)
SELECT 'sub' || id, 'sub' || id, 'gen_u' || id, tenant_id, user_id, 1, 'a', 'unknown', '', 'unknown', 1, :at FROM job
WHERE status = 'waiting'"""


async def test_calls_of_unknown_outcome_fill_up_their_users_and_cost_little(sqlite_place: Place) -> None:
    """A provider that breaks down leaves hundreds; who has none starts, and they are not read once for each user."""
    db, bounds = sqlite_place.open(), Bounds(1_000, user=1)
    await db.write(Crowd(400, 400).fill)

    async def steps() -> tuple[int, int]:
        """What may start, and SQLite's instructions for it, in thousands."""
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        def look(tx: Tx) -> int:
            driver = tx.connection.connection.driver_connection
            driver.set_progress_handler(count, 1_000)
            found = len(line.line(tx, LANE, bounds, 50).jobs)
            driver.set_progress_handler(None, 0)
            return found

        return await db.read(look), counted

    found, before = await steps()
    await db.write(lambda tx: tx.run(UNCLEAR + " AND id % 20 <> 0", {"at": tx.now}))
    left, after = await steps()
    assert (found, left) == (50, 20)
    assert after < before * 2


async def test_when_nobody_may_start_one_look_in_a_while_suffices(place: Place) -> None:
    """Every user has all that he may have: all must be looked at to know it, which is not done again at once."""
    db, users = place.open(), MANY + 200
    await db.write(Crowd(users, users, 0, users).fill)
    await db.write(settle)
    bounds = Bounds(1_000_000, user=1)
    assert await db.write(lambda tx: admission.admit(tx, limit=32, bounds=bounds)) == 0
    assert bounds.memory.rests[LANE] > 0
    bounds.memory.rests[LANE] = again = await db.read(lambda tx: tx.now + 60_000)
    await ended(db, "user7")
    assert await db.write(lambda tx: admission.admit(tx, limit=32, bounds=bounds)) == 0
    assert await db.read(lambda tx: admission.next_opening(tx, bounds)) == again
    place.time.passes(61)
    assert await db.write(lambda tx: admission.admit(tx, limit=32, bounds=bounds)) == 1


async def ended(db: Database, user: str) -> None:
    sql = "UPDATE job SET status = 'done', finished_at = :now WHERE user_id = :user AND status = 'pending'"
    assert await db.write(lambda tx: tx.run(sql, {"now": tx.now, "user": user})) == 1


async def test_few_users_are_never_a_reason_to_rest(db: Database) -> None:
    await db.write(Crowd(200, 100, 0, 100).fill)
    bounds = Bounds(1_000, user=1)
    assert await db.write(lambda tx: admission.admit(tx, limit=32, bounds=bounds)) == 0
    await ended(db, "user7")
    assert await db.write(lambda tx: admission.admit(tx, limit=32, bounds=bounds)) == 1
    assert not (await db.read(lambda tx: line.line(tx, LANE, bounds, 5))).costly
