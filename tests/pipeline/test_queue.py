"""The queue keeps its promises on both engines: one holder at a time, nothing lost, nobody starved."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pipeline import queue
from pipeline.db import Database
from pipeline.lifecycle import (
    POISON_CLAIMS,
    Advance,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Fail,
    Fault,
    Hold,
    JobKind,
    Requeue,
    Retry,
    Snooze,
    Step,
)
from pipeline.queue import LeaseLost, claiming
from tests.pipeline.engines import Place, Time, transaction
from tests.pipeline.queue_help import (
    GENERATION,
    LEASE,
    claim,
    claim_one,
    enqueue,
    finish,
    job,
    new_job,
    now,
    subjects,
)

pytestmark = pytest.mark.anyio

FAULT = Fault("provider_error", "it broke")

# --- enqueue and claim ------------------------------------------------------------------------------------------------


async def test_a_subject_has_one_job(db: Database) -> None:
    first = await db.write(lambda tx: queue.enqueue(tx, new_job("g1")))
    assert first is not None
    assert await db.write(lambda tx: queue.enqueue(tx, new_job("g1", lane="provider:b"))) is None
    assert (await job(db, "g1"))["lane"] == "provider:a"


async def test_what_is_due_first_is_taken_first_and_what_is_not_due_waits(db: Database, time: Time) -> None:
    await enqueue(db, "late", delay=2.0)
    await enqueue(db, "early", delay=1.0)
    await enqueue(db, "far", delay=60.0)
    assert await claim(db) == []
    time.passes(2.5)
    taken = await claim(db)
    assert subjects(taken) == ["early", "late"]
    assert 1500 <= taken[0].late_ms < 5000


async def test_a_claim_takes_only_its_step(db: Database) -> None:
    await enqueue(db, "g1")
    assert await claim(db, step=Step.STORE) == []
    assert subjects(await claim(db)) == ["g1"]


async def test_waiting_jobs_are_not_claimed(db: Database) -> None:
    await enqueue(db, "g1", waiting=True)
    assert await claim(db) == []


async def test_lanes_are_taken_in_turn(db: Database) -> None:
    await enqueue(db, "a1", "a2", "a3", "a4", lane="a")
    await enqueue(db, "b1", lane="b")
    await enqueue(db, "c1", "c2", lane="c")
    assert subjects(await claim(db, limit=5)) == ["a1", "b1", "c1", "a2", "c2"]
    assert subjects(await claim(db, limit=5)) == ["a3", "a4"]


async def test_a_lane_takes_no_more_than_its_places(db: Database) -> None:
    await enqueue(db, "a1", "a2", "a3", lane="a")
    await enqueue(db, "b1", "b2", "b3", lane="b")
    assert subjects(await claim(db, per_lane=2, busy={"a": 1})) == ["b1", "a1", "b2"]
    assert await claim(db, per_lane=2, busy={"a": 2, "b": 2}) == []


async def test_many_lanes_together_leave_places_for_the_others(db: Database) -> None:
    """Of 64 places, 40 receivers get one each and no more; who comes later, and who is proven, still finds some."""
    lanes = [f"endpoint:{number:02}" for number in range(40)]
    for lane in lanes:
        await enqueue(db, *(f"{lane}-{n}" for n in range(4)), lane=lane, step=Step.DELIVER)
    rooms = dict.fromkeys([*lanes, "endpoint:later", "endpoint:proven"], 8)
    busy = Counter(each.lane for each in await claim(db, step=Step.DELIVER, limit=64, rooms=rooms))
    assert (len(busy), busy.total()) == (40, 40)
    again = {"step": Step.DELIVER, "limit": 24, "rooms": rooms, "busy": busy, "proven": {"endpoint:proven"}}
    assert await claim(db, **again) == []
    for name in ("later", "proven"):
        await enqueue(db, *(f"{name}-{n}" for n in range(9)), lane=f"endpoint:{name}", step=Step.DELIVER)
    taken = Counter(each.lane for each in await claim(db, **again))
    assert taken == {"endpoint:later": 1, "endpoint:proven": 7}


async def test_lanes_that_are_proven_leave_places_too(db: Database) -> None:
    lanes = [f"endpoint:{number:02}" for number in range(30)]
    for lane in lanes:
        await enqueue(db, *(f"{lane}-{n}" for n in range(8)), lane=lane, step=Step.DELIVER)
    rooms = dict.fromkeys(lanes, 8)
    assert len(await claim(db, step=Step.DELIVER, limit=128, rooms=rooms, proven=lanes)) == 96


async def test_one_lane_may_have_its_whole_room_of_many_places_and_of_few(db: Database) -> None:
    await enqueue(db, *(f"g{n}" for n in range(30)), lane="endpoint:a", step=Step.DELIVER)
    for limit, taken in ((64, 8), (16, 8), (4, 4), (1, 1)):
        assert len(await claim(db, step=Step.DELIVER, limit=limit, rooms={"endpoint:a": 8})) == taken


async def test_two_claimers_never_get_the_same_job(db: Database, place: Place) -> None:
    names = [f"g{n:03}" for n in range(120)]
    for at in range(4):
        await enqueue(db, *names[at::4], lane=f"lane-{at}")
    other = place.open()

    async def take_all(where: Database, worker: str) -> list[str]:
        taken: list[str] = []
        while len(found := await claim(where, worker, limit=7)):
            taken += subjects(found)
        return taken

    first, second, third = await asyncio.gather(take_all(db, "w1"), take_all(other, "w2"), take_all(db, "w3"))
    assert Counter(first + second + third) == Counter(names)


async def test_jobs_that_another_claim_looks_at_are_passed_over(postgres_place: Place) -> None:
    db = postgres_place.open()
    await enqueue(db, "g1", "g2")
    with transaction(db) as tx:
        tx.one("SELECT id FROM job WHERE subject_id = 'g1' FOR UPDATE")
        assert subjects(await claim(postgres_place.open())) == ["g2"]


async def test_a_job_that_was_put_off_meanwhile_is_not_taken_early(postgres_place: Place) -> None:
    """Between the look at what is due and its lock, another process takes the job and puts it off."""
    db, other = postgres_place.open(), postgres_place.open()
    await enqueue(db, "g1")
    first = await claim_one(other)
    with transaction(db) as tx:
        await finish(other, first, Snooze(60.0))
        assert claiming._take(tx, [first.id], step=Step.POLL, worker="w2", lease=LEASE) == {}


# --- leases and the fence --------------------------------------------------------------------------------------------


async def test_an_expired_lease_is_taken_over_under_a_higher_fence(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    first = await claim_one(db, "w1")
    assert await claim(db, "w2") == []
    time.passes(LEASE + 1)
    second = await claim_one(db, "w2")
    assert (second.id, second.fence, second.rescued, first.rescued) == (first.id, first.fence + 1, True, False)
    assert second.claims_unrecorded == 2


async def test_a_zombie_writes_nothing(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    zombie = await claim_one(db, "w1")
    time.passes(LEASE + 1)
    holder = await claim_one(db, "w2")
    before = await job(db, "g1")
    for decision in (Complete(), Snooze(0.0), Requeue(0.0, FAULT), DeadLetter(FAULT)):
        with pytest.raises(LeaseLost):
            await finish(db, zombie, decision)
        with pytest.raises(LeaseLost):
            await db.write(lambda tx, decision=decision: queue.acknowledge(tx, zombie, decision, wake_seq=0))
    assert not await db.write(lambda tx: queue.release(tx, zombie))
    assert await job(db, "g1") == before
    await finish(db, holder, Complete())


async def test_the_end_of_a_lease_is_the_end_although_nobody_took_the_job(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    late = await claim_one(db)
    time.passes(LEASE + 1)
    with pytest.raises(LeaseLost):
        await finish(db, late, Complete())


async def test_the_same_process_under_an_old_fence_is_a_zombie_too(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    old = await claim_one(db, "w1")
    time.passes(LEASE + 1)
    await claim_one(db, "w1")
    with pytest.raises(LeaseLost):
        await finish(db, old, Complete())


async def test_extend_renews_what_a_process_runs_and_nothing_else(db: Database, time: Time) -> None:
    await enqueue(db, "g1", "g2", "g3")
    mine, crashed, another = [await claim_one(db, worker, limit=1) for worker in ("w1", "w1", "w2")]
    time.passes(LEASE - 3)
    assert await db.write(lambda tx: queue.extend(tx, "w1", [], LEASE)) == set()
    assert await db.write(lambda tx: queue.extend(tx, "w1", [another.id, mine.id], LEASE)) == {mine.id}
    time.passes(LEASE - 3)
    assert subjects(await claim(db, "w3")) == [crashed.subject_id, another.subject_id]
    time.passes(4)
    assert await db.write(lambda tx: queue.extend(tx, "w1", [mine.id], LEASE)) == set()


async def test_a_full_lane_of_dead_leases_hides_no_others(db: Database, time: Time) -> None:
    await enqueue(db, "a1", "a2", "a3", lane="a")
    await enqueue(db, "b1", lane="b")
    assert len(await claim(db, "dead")) == 4
    time.passes(LEASE + 1)
    assert subjects(await claim(db, "w2", limit=2, per_lane=2, busy={"a": 2})) == ["b1"]


# --- what follows from a turn ----------------------------------------------------------------------------------------

ENDS: list[tuple[Decision, dict[str, object]]] = [
    (Complete(), {"status": "done", "step": "poll"}),
    (Fail(FAULT), {"status": "done", "step": "poll"}),
    (DeadLetter(FAULT), {"status": "dead", "attempts": 2}),
    (Cancel(), {"status": "cancelled"}),
    (Snooze(5.0), {"status": "pending", "step": "poll", "polls": 1, "attempts": 0}),
    (Retry(5.0, FAULT), {"status": "pending", "step": "poll", "polls": 0, "attempts": 2}),
    (Advance(Step.STORE, 5.0), {"status": "pending", "step": "store", "attempts": 0}),
    (Hold(5.0, FAULT), {"status": "pending", "step": "resolve", "attempts": 0}),
    (Hold(None, FAULT), {"status": "pending", "step": "held", "scheduled_for": queue.FAR_FUTURE}),
    (Requeue(5.0, FAULT), {"status": "waiting", "step": "submit", "sort_at": 42, "attempts": 0}),
]


@pytest.mark.parametrize(("decision", "expected"), ENDS, ids=lambda value: type(value).__name__)
async def test_a_decision_gives_the_job_back(db: Database, decision: Decision, expected: dict[str, object]) -> None:
    await enqueue(db, "g1", sort_at=42)
    await finish(db, await claim_one(db), Retry(0.0, FAULT))
    await finish(db, await claim_one(db), decision)
    after = await job(db, "g1")
    assert {name: after[name] for name in expected} == expected
    assert (after["locked_by"], after["locked_until"], after["claims_unrecorded"]) == (None, None, 0)
    assert (after["finished_at"] is not None) == (after["status"] in {"done", "dead", "cancelled"})
    if isinstance(decision, Snooze | Retry | Advance):
        assert 4000 < after["scheduled_for"] - await now(db) <= 5000


@pytest.mark.parametrize(("step", "kept"), [(Step.SUBMIT, 1), (Step.RESOLVE, 0), (Step.POLL, 0)])
async def test_only_a_submit_that_has_to_wait_keeps_its_attempts(db: Database, step: Step, kept: int) -> None:
    await enqueue(db, "g1", step=step)
    await finish(db, await claim_one(db, step=step), Retry(0.0, FAULT))
    await finish(db, await claim_one(db, step=step), Requeue(0.0, FAULT))
    after = await job(db, "g1")
    assert (after["status"], after["step"], after["attempts"]) == ("waiting", "submit", kept)


async def test_a_release_counts_in_no_counter(db: Database) -> None:
    await enqueue(db, "g1")
    before = await job(db, "g1")
    for _ in range(3):
        held = await claim_one(db)
        assert await db.write(lambda tx, held=held: queue.release(tx, held))
    after = await job(db, "g1")
    counters = ("attempts", "polls", "claims_unrecorded", "status")
    assert [after[name] for name in counters] == [before[name] for name in counters]
    assert after["fence"] == 3


async def test_claims_without_a_record_are_counted_until_one_is_made(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    for expected in range(1, POISON_CLAIMS + 2):
        held = await claim_one(db)
        assert held.claims_unrecorded == expected
        time.passes(LEASE + 1)
    await finish(db, await claim_one(db), Snooze(0.0))
    assert (await claim_one(db)).claims_unrecorded == 1


async def test_a_job_whose_subject_is_gone_ends(db: Database) -> None:
    await enqueue(db, "g1")
    held = await claim_one(db)
    await db.write(lambda tx: queue.drop(tx, held))
    assert (await job(db, "g1"))["status"] == "cancelled"


# --- wake and cancel -------------------------------------------------------------------------------------------------


async def test_a_wake_makes_a_job_due_now(db: Database) -> None:
    await enqueue(db, "g1", delay=60.0)
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    assert subjects(await claim(db)) == ["g1"]


@pytest.mark.parametrize("decision", [Snooze(60.0), Advance(Step.POLL, 60.0)])
async def test_a_wake_during_a_turn_makes_its_snooze_due_now(db: Database, decision: Decision) -> None:
    await enqueue(db, "g1")
    held = await claim_one(db)
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    await finish(db, held, decision)
    again = await claim_one(db)
    await finish(db, again, decision)
    assert await claim(db) == [], "the wake was for once"


async def test_a_wake_does_not_shorten_the_wait_after_a_failure(db: Database) -> None:
    await enqueue(db, "g1")
    held = await claim_one(db)
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    await finish(db, held, Retry(60.0, FAULT))
    assert await claim(db) == []


async def test_a_cancel_during_a_turn_that_fails_is_acted_on_at_once(db: Database) -> None:
    await enqueue(db, "g1")
    held = await claim_one(db)
    await db.write(lambda tx: queue.request_cancel(tx, GENERATION, "g1"))
    await finish(db, held, Retry(60.0, FAULT), cancel_requested=True)
    again = await claim_one(db)
    await finish(db, again, Retry(60.0, FAULT), cancel_requested=True)
    assert await claim(db) == [], "the next failure waits as every failure does"


async def test_a_wake_touches_neither_fence_nor_lease(db: Database) -> None:
    await enqueue(db, "g1")
    held = await claim_one(db)
    before = await job(db, "g1")
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    assert await job(db, "g1") == before | {"wake_seq": 1}
    await finish(db, held, Complete())
    ended = await job(db, "g1")
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    assert await job(db, "g1") == ended | {"wake_seq": 2}


async def test_a_held_job_is_taken_by_nobody_until_there_is_news_of_it(db: Database, time: Time) -> None:
    await enqueue(db, "g1")
    await finish(db, await claim_one(db), Hold(None, FAULT))
    time.passes(10 * 365 * 86400)
    for step in Step:
        if step is not Step.HELD:
            assert await claim(db, step=step) == []
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    assert subjects(await claim(db, step=Step.RESOLVE)) == ["g1"]


async def test_news_during_the_turn_that_would_park_a_job_is_looked_into(db: Database) -> None:
    await enqueue(db, "g1")
    held = await claim_one(db)
    await db.write(lambda tx: queue.wake(tx, GENERATION, "g1"))
    await finish(db, held, Hold(None, FAULT))
    assert subjects(await claim(db, step=Step.RESOLVE)) == ["g1"]


@pytest.mark.parametrize("waiting", [True, False])
async def test_an_unstarted_job_is_cancelled_at_once(db: Database, waiting: bool) -> None:
    await enqueue(db, "g1", step=Step.SUBMIT, waiting=waiting)
    assert await db.write(lambda tx: queue.cancel_unstarted(tx, GENERATION, "g1"))
    assert (await job(db, "g1"))["status"] == "cancelled"
    assert await claim(db, step=Step.SUBMIT) == []
    assert not await db.write(lambda tx: queue.cancel_unstarted(tx, GENERATION, "g1"))


async def test_a_started_job_is_asked_to_end_and_comes_at_once(db: Database) -> None:
    await enqueue(db, "g1", step=Step.SUBMIT)
    held = await claim_one(db, step=Step.SUBMIT)
    assert not await db.write(lambda tx: queue.cancel_unstarted(tx, GENERATION, "g1"))
    await db.write(lambda tx: queue.request_cancel(tx, GENERATION, "g1"))
    assert (await db.write(lambda tx: queue.lock(tx, held)))["cancel_requested"] == 1
    await finish(db, held, Advance(Step.POLL, 60.0))
    assert subjects(await claim(db)) == ["g1"]
    assert not await db.write(lambda tx: queue.cancel_unstarted(tx, GENERATION, "g1"))


async def test_a_cancel_reaches_a_held_job(db: Database) -> None:
    await enqueue(db, "g1")
    await finish(db, await claim_one(db), Hold(None, FAULT))
    await db.write(lambda tx: queue.request_cancel(tx, GENERATION, "g1"))
    assert subjects(await claim(db, step=Step.RESOLVE)) == ["g1"]


# --- looking and cleaning --------------------------------------------------------------------------------------------


async def test_next_due_is_the_next_time_at_which_something_can_be_taken(db: Database, time: Time) -> None:
    async def seconds(*steps: Step) -> float | None:
        due, at = await db.read(lambda tx: (queue.next_due(tx, steps), tx.now))
        return None if due is None else (due - at) / 1000

    assert await seconds(Step.POLL) is None
    await enqueue(db, "g1", delay=30.0)
    await enqueue(db, "g2", delay=20.0, lane="provider:b")
    await enqueue(db, "g3", delay=5.0, step=Step.STORE)
    assert await seconds(Step.POLL) == pytest.approx(20, abs=2)
    assert await seconds(Step.POLL, Step.STORE) == pytest.approx(5, abs=2)
    time.passes(25)
    assert await seconds(Step.POLL) == pytest.approx(5, abs=2), "what is due already is no time to wait for"
    await claim_one(db)
    time.passes(6)
    assert await seconds(Step.POLL) == pytest.approx(LEASE - 6, abs=2), "the end of a lease counts"


async def test_pruning_deletes_what_ended_long_ago_but_not_the_dead(db: Database, time: Time) -> None:
    await enqueue(db, "done", "dead", "alive", "late")
    await enqueue(db, "other", kind=JobKind.DELIVERY)
    for held, decision in zip(
        await claim(db), [Complete(), DeadLetter(FAULT), Snooze(0.0), Snooze(0.0), Complete()], strict=True
    ):
        await finish(db, held, decision)
    time.passes(100)
    border = await now(db) - 50_000
    late = next(found for found in await claim(db) if found.subject_id == "late")
    await finish(db, late, Complete())
    assert await db.write(lambda tx: queue.prune(tx, before=border, limit=10)) == 2
    left = await db.read(lambda tx: tx.all("SELECT subject_id FROM job ORDER BY subject_id"))
    assert [row["subject_id"] for row in left] == ["alive", "dead", "late"]


async def test_pruning_is_done_in_bites(db: Database, time: Time) -> None:
    await enqueue(db, *[f"g{n}" for n in range(5)])
    for held in await claim(db):
        await finish(db, held, Complete())
    time.passes(10)
    at = await now(db)
    bites = [await db.write(lambda tx: queue.prune(tx, before=at, limit=2)) for _ in range(4)]
    assert bites == [2, 2, 1, 0]


async def test_stats_count_what_lives_and_what_is_dead(db: Database) -> None:
    await enqueue(db, "g1", "g2", "g3")
    await enqueue(db, "g4", waiting=True, step=Step.SUBMIT)
    held = await claim(db, limit=2)
    await finish(db, held[0], DeadLetter(FAULT))
    found = await db.read(queue.stats)
    counted = {(row["status"], row["step"]): row["jobs"] for row in found}
    assert counted == {
        ("waiting", "submit"): 1,
        ("pending", "poll"): 1,
        ("processing", "poll"): 1,
        ("dead", "poll"): 1,
    }


async def test_the_table_itself_refuses_a_holder_without_a_lease(db: Database) -> None:
    await enqueue(db, "g1")
    with pytest.raises(Exception, match="job_lease"):
        await db.write(lambda tx: tx.run("UPDATE job SET status = 'processing' WHERE subject_id = 'g1'"))
