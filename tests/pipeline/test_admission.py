"""Who starts next: priority first, but never for ever; the lane's bound holds whoever asks at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import admission, queue
from pipeline.admission import HEAD_START_MS, LOWEST_PRIORITY, sort_at
from pipeline.db import Database
from pipeline.lifecycle import Advance, Complete, Fault, Hold, Requeue, Snooze, Step
from tests.pipeline.engines import Place, Time, transaction
from tests.pipeline.queue_help import GENERATION, claim, claim_one, enqueue, finish, job, new_job

pytestmark = pytest.mark.anyio

LANE = "provider:a"
BOUNDS = admission.Bounds(100)
FAULT = Fault("rate_limited", "slow down")


async def arrive(db: Database, subject: str, *, priority: int = 5, lane: str = LANE) -> None:
    """A generation comes in now."""
    await db.write(
        lambda tx: queue.enqueue(
            tx, new_job(subject, lane=lane, step=Step.SUBMIT, waiting=True, sort_at=sort_at(tx.now, priority))
        )
    )


async def admit(db: Database, *, limit: int = 100, at_most: int = 100) -> int:
    return await db.write(lambda tx: admission.admit(tx, limit=limit, bounds=admission.Bounds(at_most)))


async def admitted(db: Database) -> list[str]:
    rows = await db.read(lambda tx: tx.all("SELECT subject_id FROM job WHERE status = 'pending' ORDER BY id"))
    return [row["subject_id"] for row in rows]


async def started(db: Database, count: int) -> list[str]:
    """Admit one by one: the order in which they start."""
    order: list[str] = []
    for _ in range(count):
        assert await admit(db, limit=1) == 1
        order += [name for name in await admitted(db) if name not in order]
    return order


# --- order -----------------------------------------------------------------------------------------------------------


async def test_a_higher_priority_starts_first_and_equals_start_in_turn(db: Database) -> None:
    for name, priority in (("usual", 5), ("low", 10), ("high", 1), ("usual too", 5)):
        await arrive(db, name, priority=priority)
    assert await started(db, 4) == ["high", "usual", "usual too", "low"]


async def test_who_has_waited_longer_than_the_head_start_goes_first(db: Database, time: Time) -> None:
    await arrive(db, "patient", priority=10)
    time.passes(HEAD_START_MS / 1000 * (LOWEST_PRIORITY - 1) + 1)
    await arrive(db, "hasty", priority=1)
    assert await started(db, 2) == ["patient", "hasty"]


@given(
    first=st.tuples(st.integers(0, 10**13), st.integers(1, LOWEST_PRIORITY)),
    later=st.integers(0, 10**9),
    priority=st.integers(1, LOWEST_PRIORITY),
)
def test_nothing_that_arrives_later_than_the_head_start_overtakes(
    first: tuple[int, int], later: int, priority: int
) -> None:
    created_at, mine = first
    overtakes = sort_at(created_at + later, priority) < sort_at(created_at, mine)
    assert overtakes == (later < HEAD_START_MS * (mine - priority))


async def test_a_requeued_job_keeps_its_place_in_line(db: Database, time: Time) -> None:
    await arrive(db, "old")
    await admit(db)
    held = await claim_one(db, step=Step.SUBMIT)
    await arrive(db, "new")
    time.passes(3)
    await finish(db, held, Requeue(0.0, FAULT))
    assert await started(db, 1) == ["old"]


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_a_lane_starts_no_more_than_it_may_have_in_flight(db: Database) -> None:
    for n in range(5):
        await arrive(db, f"g{n}")
    assert await admit(db, at_most=3) == 3
    assert await admit(db, at_most=3) == 0
    held = await claim(db, step=Step.SUBMIT, limit=2)
    assert await admit(db, at_most=3) == 0, "a claimed job is still in flight"
    await finish(db, held[0], Advance(Step.POLL, 60.0))
    assert await admit(db, at_most=3) == 0, "so is one that is polled"
    await finish(db, held[1], Complete())
    assert await admit(db, at_most=3) == 1


async def test_who_waits_for_a_person_takes_no_place(db: Database) -> None:
    await arrive(db, "g1")
    await arrive(db, "g2")
    await admit(db, at_most=1)
    await finish(db, await claim_one(db, step=Step.SUBMIT), Hold(None, FAULT))
    assert await admit(db, at_most=1) == 1


async def test_one_lane_does_not_wait_for_another(db: Database) -> None:
    for n in range(3):
        await arrive(db, f"a{n}", lane="provider:a")
        await arrive(db, f"b{n}", lane="provider:b")
    assert await admit(db, at_most=2) == 4
    assert await admit(db, limit=1, at_most=3) == 2


@pytest.mark.parametrize(("bound", "expected"), [(2, 2), (0, 0), (None, 3)])
async def test_a_lane_may_have_a_bound_of_its_own(db: Database, bound: int | None, expected: int) -> None:
    for n in range(4):
        await arrive(db, f"g{n}")
    await db.write(lambda tx: admission.hold_lane(tx, LANE))
    await db.write(lambda tx: tx.update("lane", {"max_in_flight": bound}, "name = :name", {"name": LANE}))
    assert await admit(db, at_most=3) == expected


async def test_deliveries_are_not_counted(db: Database) -> None:
    await enqueue(db, "dlv", step=Step.DELIVER, lane=LANE)
    await arrive(db, "g1")
    assert await admit(db, at_most=1) == 1


async def test_bounds_are_exact_however_many_admit_at_once(place: Place) -> None:
    """Several processes admit and end work at the same time: never more in flight than allowed, at any moment."""
    doors = [place.open() for _ in range(4)]
    for n in range(60):
        await arrive(doors[0], f"g{n:02}")
    worst: list[int] = []

    async def work(db: Database, name: str) -> int:
        done = 0
        for _ in range(400):
            await admit(db, limit=3, at_most=5)
            worst.append(await db.read(lambda tx: admission.in_flight(tx, LANE)))
            for held in await claim(db, name, step=Step.SUBMIT, limit=2):
                await finish(db, held, Complete())
                done += 1
            if not await db.read(lambda tx: tx.value("SELECT 1 FROM job WHERE finished_at IS NULL LIMIT 1")):
                break
        return done

    assert sum(await asyncio.gather(*(work(db, f"w{n}") for n, db in enumerate(doors)))) == 60
    assert max(worst) <= 5


async def test_a_job_that_is_cancelled_while_it_is_admitted_stays_cancelled(postgres_place: Place) -> None:
    """The admission has chosen the job and waits for its row, which a cancel holds."""
    db, other = postgres_place.open(), postgres_place.open()
    await arrive(db, "g1")
    with transaction(other) as tx:
        assert queue.cancel_unstarted(tx, GENERATION, "g1")
        pending = asyncio.create_task(admit(db))
        await waiting_for_a_lock(other)
    assert await pending == 0
    assert (await job(db, "g1"))["status"] == "cancelled"


async def waiting_for_a_lock(db: Database) -> None:
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = monotonic() + 5
    while await db.read(lambda tx: tx.value(query)) is None:
        assert monotonic() < deadline, "nobody waits"


# --- pauses ----------------------------------------------------------------------------------------------------------


async def test_a_paused_lane_starts_nothing_until_its_time_is_over(db: Database, time: Time) -> None:
    await arrive(db, "g1")
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=30, reason="quota"))
    assert await admit(db) == 0
    opening, at = await db.read(lambda tx: (admission.next_opening(tx, BOUNDS), tx.now))
    assert opening is not None
    assert 25_000 < opening - at <= 30_000
    time.passes(31)
    assert await admit(db) == 1
    assert await db.read(lambda tx: admission.next_opening(tx, BOUNDS)) is None


async def test_a_longer_pause_is_never_cut_short_and_resume_ends_it(db: Database, time: Time) -> None:
    await arrive(db, "g1")
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=100, reason="quota"))
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=1, reason="rate"))
    time.passes(50)
    assert await admit(db) == 0
    (lane,) = await db.read(admission.lanes)
    assert lane["paused_reason"] == "quota"
    await db.write(lambda tx: admission.resume(tx, LANE))
    assert await admit(db) == 1


@pytest.mark.parametrize(
    ("answers", "closed"), [("uu", False), ("uuu", True), ("uuau", False), ("auuu", True), ("uauaua", False)]
)
async def test_three_unknown_outcomes_in_a_row_close_the_lane(
    db: Database, answers: Sequence[str], closed: bool
) -> None:
    await arrive(db, "g1")
    said = False
    for answer in answers:
        if answer == "u":
            said = await db.write(lambda tx: admission.note_unknown(tx, LANE, seconds=60))
        else:
            await db.write(lambda tx: admission.note_answer(tx, LANE))
    assert said is closed
    assert await admit(db) == (0 if closed else 1)


async def test_resume_forgets_the_streak(db: Database) -> None:
    for _ in range(3):
        await db.write(lambda tx: admission.note_unknown(tx, LANE, seconds=60))
    await db.write(lambda tx: admission.resume(tx, LANE))
    assert not await db.write(lambda tx: admission.note_unknown(tx, LANE, seconds=60))


async def test_what_is_in_flight_goes_on_while_its_lane_is_paused(db: Database) -> None:
    await arrive(db, "g1")
    await admit(db)
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="quota"))
    held = await claim_one(db, step=Step.SUBMIT)
    await finish(db, held, Advance(Step.POLL))
    await finish(db, await claim_one(db), Snooze(1.0))
