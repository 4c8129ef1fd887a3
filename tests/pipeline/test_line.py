"""The line: the fair order, however it is looked up; what holds one user back holds nobody else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import admission, ledger, queue
from pipeline.admission import Bounds, Why, overtaken_until, rank, sort_at, user_lane
from pipeline.admission import line as lines
from pipeline.admission.line import ELSEWHERE, PLAIN, How, line
from pipeline.db import Database, Row, Tx
from pipeline.lifecycle import Complete, Fallback, Fault, Hold, Requeue, Step
from providers.base import ErrorCode, ProviderError, Recovery
from tests.pipeline.crowd import LANE, Crowd
from tests.pipeline.engines import Place, Time, transaction
from tests.pipeline.queue_help import claim, finish, new_job
from tests.pipeline.test_admission import waiting_for_a_lock

pytestmark = pytest.mark.anyio

WIDE = Bounds(1_000)
FAULT = Fault("rate_limited", "slow down")
OTHER = "provider:b"
WAYS = {
    "as it ships": lines.LOOKS,
    "by name": ((How.ALL, 10_000),),
    "by arrival": ((How.FIRST, 10_000),),
    "by and by": ((How.ALL, 1), (How.FIRST, 2), (How.FIRST, 6), (How.ALL, 2), (How.ALL, 10_000)),
}


async def arrive(db: Database, user: str, *subjects: str, tenant: str = "default", at: int = 0, **more: object) -> None:
    """Generations of a user, `at` milliseconds from now."""
    lane = str(more.pop("lane", LANE))
    fallback = bool(more.pop("fallback", False))

    def unit(tx: Tx) -> None:
        for subject in subjects:
            job = new_job(
                subject,
                lane=lane,
                step=Step.SUBMIT,
                waiting=True,
                sort_at=tx.now + at,
                user_id=user,
                tenant_id=tenant,
                fallback=fallback,
            )
            assert queue.enqueue(tx, job) is not None

    await db.write(unit)


async def share(db: Database, user: str, **columns: object) -> None:
    def unit(tx: Tx) -> None:
        admission.hold_lane(tx, user_lane("default", user))
        tx.update("lane", columns, "name = :name", {"name": user_lane("default", user)})

    await db.write(unit)


async def admit(db: Database, bounds: Bounds = WIDE, *, limit: int = 100) -> list[str]:
    """Who is started now, by subject, in the order of ids."""
    before = set(await started(db))
    await db.write(lambda tx: admission.admit(tx, limit=limit, bounds=bounds))
    return [subject for subject in await started(db) if subject not in before]


async def started(db: Database) -> list[str]:
    rows = await db.read(lambda tx: tx.all("SELECT subject_id FROM job WHERE status <> 'waiting' ORDER BY id"))
    return [row["subject_id"] for row in rows]


async def one_by_one(db: Database, count: int, bounds: Bounds = WIDE) -> str:
    """The first letters of those that start, one after the other."""
    order = ""
    for _ in range(count):
        (subject,) = await admit(db, bounds, limit=1)
        order += subject[0]
    return order


def in_words(jobs: Iterable[Row]) -> list[str]:
    return [job["subject_id"] for job in jobs]


# --- order -----------------------------------------------------------------------------------------------------------


async def test_users_share_whoever_came_first_with_much(db: Database) -> None:
    await arrive(db, "ann", *(f"a{n}" for n in range(6)))
    await arrive(db, "bob", "b1", "b2", at=1)
    await arrive(db, "cid", "c1", at=2)
    assert await one_by_one(db, 9) == "abcabaaaa"


async def test_who_asks_later_than_what_is_ahead_of_another_waits_for_him(db: Database) -> None:
    """Ann's third job stands two minutes back: behind Bob, who comes a minute later, not behind Cid after three."""
    await arrive(db, "ann", "a1", "a2", "a3")
    await arrive(db, "bob", "b1", at=60_001)
    await arrive(db, "cid", "c1", at=180_000)
    assert await one_by_one(db, 5) == "aabac"


async def test_a_weight_of_two_gets_two_places_for_each_of_the_others(db: Database) -> None:
    await share(db, "ann", weight=2.0)
    await arrive(db, "ann", *(f"a{n}" for n in range(8)))
    await arrive(db, "bob", *(f"b{n}" for n in range(8)), at=1)
    assert await one_by_one(db, 9) == "abaabaaba"


async def test_tenants_that_have_a_user_of_the_same_name_are_two(db: Database) -> None:
    await arrive(db, "ann", "a1", "a2", "a3")
    await arrive(db, "ann", "b1", "b2", tenant="other", at=1)
    assert await one_by_one(db, 5) == "ababa"


async def test_requests_that_name_nobody_start_in_the_order_of_their_arrival(db: Database) -> None:
    await arrive(db, "", *(f"{letter}" for letter in "abcdef"))
    await arrive(db, "", "g", at=-600_000)
    assert await one_by_one(db, 7) == "gabcdef"


async def test_a_job_that_comes_back_has_its_old_place_and_stands_behind_nobody_for_it(db: Database) -> None:
    await arrive(db, "ann", "a1", "a2")
    await arrive(db, "bob", "b1", at=1)
    assert await one_by_one(db, 1) == "a"
    (held,) = await claim(db, step=Step.SUBMIT)
    await finish(db, held, Requeue(0.0, FAULT))
    assert await one_by_one(db, 3) == "aba"


async def test_a_job_that_falls_back_takes_its_place_to_the_other_lane(db: Database) -> None:
    await arrive(db, "ann", "a1")
    await admit(db)
    await arrive(db, "bob", "b1", at=5, lane=OTHER)
    (held,) = await claim(db, step=Step.SUBMIT)
    await finish(db, held, Fallback(0.0, FAULT, OTHER, more=False))
    assert await one_by_one(db, 2) == "ab"


@pytest.mark.parametrize("way", WAYS)
async def test_the_order_is_the_formula_however_it_is_looked_up(
    db: Database, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(f"{way}{db.postgres}")
    monkeypatch.setattr(lines, "LOOKS", WAYS[way])
    names = ["", "ann", "bob", "cid/x", "dän", "e'f"]
    for user in names[1:4]:
        await share(db, user, weight=random.choice([None, 0.5, 3.0]), max_in_flight=random.choice([None, 2, 9]))
    for number in range(60):
        user, tenant = random.choice([*names, "ann", "ann"]), random.choice(["default", "default", "other"])
        at, more = random.randrange(-400_000, 0), {"fallback": random.random() < 0.5}
        lane = random.choice([LANE, LANE, OTHER])
        await arrive(db, user, f"{number}", tenant=tenant, at=at, lane=lane, **more)
    for round_ in range(4):
        for road in (PLAIN, ELSEWHERE):
            for most in (1, 3, 7, 100):
                bounds = Bounds(1_000, user=random.choice([None, 4]))
                found = await db.read(partial(line, lane=LANE, bounds=bounds, most=most, road=road))
                rows = await db.read(lambda tx: tx.all("SELECT * FROM job"))
                shares = await db.read(admission.lanes)
                expected = by_the_formula(rows, shares, bounds, only=road is ELSEWHERE)[:most]
                assert in_words(found.jobs) == expected, (way, round_, most)
        await db.write(lambda tx: admission.admit(tx, limit=6, bounds=WIDE))


def by_the_formula(rows: list[Row], shares: list[Row], bounds: Bounds, *, only: bool) -> list[str]:
    """The same, worked out from all rows."""
    own = {row["name"]: row for row in shares}
    waiting = sorted(
        (row for row in rows if row["status"] == "waiting" and row["lane"] == LANE and (row["fallback"] or not only)),
        key=lambda row: (row["sort_at"], row["id"]),
    )
    here = Counter(
        (row["tenant_id"], row["user_id"]) for row in rows if row["status"] == "pending" and row["lane"] == LANE
    )
    total = Counter((row["tenant_id"], row["user_id"]) for row in rows if row["status"] == "pending")
    seen: Counter[tuple[str, str]] = Counter()
    ranked = []
    for row in waiting:
        who = row["tenant_id"], row["user_id"]
        lane = own.get(user_lane(*who), {"weight": None, "max_in_flight": None})
        cap = bounds.user if lane["max_in_flight"] is None else lane["max_in_flight"]
        seen[who] += 1
        if cap is None or total[who] + seen[who] <= cap:
            place = rank(row["sort_at"], in_flight=here[who], position=seen[who], weight=lane["weight"] or 1.0)
            ranked.append((place, row["sort_at"], row["id"], row["subject_id"]))
    return [each[3] for each in sorted(ranked)]


# --- the bound -------------------------------------------------------------------------------------------------------

ARRIVAL = st.tuples(st.integers(0, 900_000), st.sampled_from("abcd"), st.integers(1, 10))


@given(
    arrivals=st.lists(ARRIVAL, min_size=2, max_size=25),
    ends=st.lists(st.integers(0, 5), max_size=25),
    weights=st.fixed_dictionaries({user: st.sampled_from([0.1, 0.5, 1.0, 4.0]) for user in "abcd"}),
)
def test_nobody_is_overtaken_by_one_who_came_later_than_the_bound(
    arrivals: list[tuple[int, str, int]], ends: list[int], weights: dict[str, float]
) -> None:
    """Starts and ends in any order; at each start all others that wait are asked how late who started may have come."""
    waiting = [(sort_at(at, priority), n, at, user, priority) for n, (at, user, priority) in enumerate(arrivals)]
    running: list[str] = []
    while waiting:
        ranked = []
        for job in waiting:
            ahead = sum(other[:2] < job[:2] for other in waiting if other[3] == job[3]) + running.count(job[3])
            place = rank(job[0], in_flight=0, position=ahead + 1, weight=weights[job[3]])
            latest = overtaken_until(job[2], job[4], ahead=ahead, weight=weights[job[3]])
            ranked.append((place, *job[:2], job, latest))
        first, *others = sorted(ranked)
        for other in others:
            assert first[3][2] <= other[4]
        waiting.remove(first[3])
        running.append(first[3][3])
        for _ in range(ends.pop() if ends else 0):
            if running:
                running.pop(0)


@given(at=st.integers(0, 10**12), priority=st.integers(1, 10), ahead=st.integers(0, 50))
def test_the_bound_is_reached(at: int, priority: int, ahead: int) -> None:
    """It is no wider than need be: who comes just then with the highest priority stands even with the job."""
    latest = int(overtaken_until(at, priority, ahead=ahead))
    own = rank(sort_at(at, priority), in_flight=0, position=ahead + 1)
    assert rank(sort_at(latest, 1), in_flight=0, position=1) == own


# --- caps and pauses of users ----------------------------------------------------------------------------------------


async def test_a_user_has_no_more_in_flight_than_he_may_over_all_lanes(db: Database) -> None:
    await arrive(db, "ann", "a1", "a2", "a3")
    await arrive(db, "ann", "a4", "a5", lane=OTHER)
    await arrive(db, "bob", "b1", "b2", "b3", at=1)
    bounds = Bounds(100, user=2)
    assert Counter(name[0] for name in await admit(db, bounds)) == {"a": 2, "b": 2}
    assert await admit(db, bounds) == []
    for held in await claim(db, step=Step.SUBMIT):
        await finish(db, held, Complete())
    assert Counter(name[0] for name in await admit(db, bounds)) == {"a": 2, "b": 1}


@pytest.mark.parametrize(("own", "expected"), [(1, 1), (0, 0), (5, 4), (None, 2)])
async def test_a_users_own_number_goes_first(db: Database, own: int | None, expected: int) -> None:
    await share(db, "ann", max_in_flight=own)
    await arrive(db, "ann", "a1", "a2", "a3", "a4")
    assert len(await admit(db, Bounds(100, user=2))) == expected


async def test_requests_that_name_nobody_are_one_user_of_their_tenant(db: Database) -> None:
    await arrive(db, "", "a1", "a2", "a3")
    await arrive(db, "", "b1", tenant="other")
    assert Counter(name[0] for name in await admit(db, Bounds(100, user=2))) == {"a": 2, "b": 1}


async def test_a_call_of_unknown_outcome_takes_a_place_of_its_user_while_it_may_be_at_work(
    db: Database, time: Time
) -> None:
    await arrive(db, "ann", "a1", "a2")
    bounds = Bounds(100, user=1, unclear_seconds=100)
    assert await admit(db, bounds) == ["a1"]
    (held,) = await claim(db, step=Step.SUBMIT)
    generation = {"id": "a1", "tenant_id": "default", "user_id": "ann", "run": 1, "provider": "a", "model": None}

    def unclear(tx: Tx) -> None:
        assert ledger.intend(tx, generation, token="t", estimate_micros=1, recovery=Recovery(), rings=False)
        ledger.mark_unknown(tx, "t", ProviderError(ErrorCode.TRANSIENT, "no answer"), answered=True)

    await db.write(unclear)
    await finish(db, held, Hold(None, FAULT))
    assert await admit(db, bounds) == []
    assert (await why(db, "a2", bounds)).reason is Why.USER_FULL
    time.passes(101)
    assert await admit(db, bounds) == ["a2"]


async def test_who_is_full_or_paused_keeps_nobody_waiting(db: Database, time: Time) -> None:
    await arrive(db, "ann", *(f"a{n}" for n in range(30)))
    await arrive(db, "bob", *(f"b{n}" for n in range(30)), at=1)
    await arrive(db, "cid", "c1", at=2)
    await share(db, "ann", max_in_flight=0)
    await db.write(lambda tx: admission.pause(tx, user_lane("default", "bob"), seconds=60, reason="lunch"))
    assert await admit(db) == ["c1"]
    opening, now = await db.read(lambda tx: (admission.next_opening(tx, WIDE), tx.now))
    assert opening is not None
    assert 55_000 < opening - now <= 60_000
    time.passes(61)
    assert len(await admit(db)) == 30
    assert await db.read(lambda tx: admission.next_opening(tx, WIDE)) is None


async def test_a_paused_user_stays_where_he_is_on_every_road(db: Database) -> None:
    await arrive(db, "ann", "a1", fallback=True)
    await db.write(lambda tx: admission.pause(tx, user_lane("default", "ann"), seconds=60, reason="x"))
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="x"))
    assert await admit(db) == []
    await db.write(lambda tx: admission.resume(tx, LANE))
    await db.write(lambda tx: tx.update("lane", {"probing": 1}, "name = :name", {"name": LANE}))
    assert await admit(db) == []
    await arrive(db, "bob", "b1", "b2")
    assert await admit(db) == ["b1"]


async def test_out_of_a_paused_lane_users_go_in_turn(db: Database) -> None:
    await arrive(db, "ann", "a1", "a2", "a3", fallback=True)
    await arrive(db, "bob", "b1", at=1, fallback=True)
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="x"))
    assert await admit(db, limit=2) == ["a1", "b1"]


async def caps_under_pressure(place: Place, rounds: int) -> int:
    """Four processes admit into two lanes and end work; how far any user was beyond his cap at most."""
    doors = [place.open() for _ in range(4)]
    for number in range(40):
        await arrive(doors[0], f"u{number % 5}", f"g{number}", lane=(LANE, OTHER)[number % 2], at=number)
    await share(doors[0], "u0", max_in_flight=1)
    bounds, worst = Bounds(100, user=3), -3
    sql = f"SELECT user_id, count(*) AS jobs FROM job WHERE {lines.IN_FLIGHT} GROUP BY user_id"

    async def work(db: Database, name: str) -> None:
        nonlocal worst
        for _ in range(rounds):
            await db.write(lambda tx: admission.admit(tx, limit=2, bounds=bounds))
            for row in await db.read(lambda tx: tx.all(sql)):
                worst = max(worst, row["jobs"] - (1 if row["user_id"] == "u0" else 3))
            for held in await claim(db, name, step=Step.SUBMIT, limit=3):
                await finish(db, held, Complete() if Random(held.id).random() < 0.3 else Requeue(0.0, FAULT))

    await asyncio.gather(*(work(db, f"w{n}") for n, db in enumerate(doors)))
    assert len(await started(doors[0])) > 10
    return worst


async def test_no_user_has_more_than_he_may_however_many_admit_at_once(place: Place) -> None:
    assert await caps_under_pressure(place, 25) <= 0


async def test_two_that_saw_different_lanes_give_out_no_place_of_a_user_twice(postgres_place: Place) -> None:
    """The one looked before the other lane had anything; the other holds that lane, which the first never asks for."""
    db, other = postgres_place.open(), postgres_place.open()
    bounds = Bounds(100, user=1)
    await arrive(db, "ann", "b1", lane=OTHER)
    with transaction(other) as tx:
        assert admission.admit(tx, limit=9, bounds=bounds) == 1
        await arrive(db, "ann", "a1", lane=LANE)
        pending = asyncio.create_task(admit(db, bounds))
        await waiting_for_a_lock(db)
    assert "a1" not in await pending
    assert await started(db) == ["b1"]


# --- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("users", "places"), [(10, 44), (30, 12)])
async def test_half_of_the_backlog_is_no_more_than_one_share(db: Database, users: int, places: int) -> None:
    """With places for all he gets what each other gets; with fewer, no more than one place at a time."""
    await db.write(Crowd(2_000, users, hog=0.5, burst=True).fill)
    starts: Counter[str] = Counter()
    for _ in range(12):
        await db.write(lambda tx: admission.admit(tx, limit=100, bounds=Bounds(places)))
        turns = await claim(db, step=Step.SUBMIT, limit=100)
        assert len(turns) == places
        rows = await db.read(lambda tx: tx.all("SELECT user_id FROM job WHERE status = 'processing'"))
        round_ = Counter(row["user_id"] for row in rows)
        assert round_["hog"] <= max(1, min(round_[f"user{n}"] for n in range(users)) + 1)
        starts += round_
        for held in turns:
            await finish(db, held, Complete())
    assert starts["hog"] <= max(12, 12 * places / (users + 1) * 1.1)


# --- standing --------------------------------------------------------------------------------------------------------


async def why(db: Database, subject: str, bounds: Bounds = WIDE) -> admission.Standing:
    def query(tx: Tx) -> admission.Standing:
        row = tx.one("SELECT * FROM job WHERE subject_id = :id", {"id": subject})
        assert row is not None
        return admission.standing(tx, row, bounds)

    return await db.read(query)


async def test_a_waiting_job_knows_its_place_and_what_is_ahead(db: Database) -> None:
    await arrive(db, "ann", "a1", "a2", "a3")
    await arrive(db, "bob", "b1", at=1)
    assert await admit(db, Bounds(1), limit=1) == ["a1"]
    told = await why(db, "a3", Bounds(1))
    assert (told.reason, told.position, told.exact, told.ahead, told.user_in_flight) == (Why.LANE_FULL, 3, True, 1, 1)
    assert (await why(db, "b1", Bounds(2))).reason is Why.NEXT
    assert ((told := await why(db, "a2", Bounds(2))).reason, told.position) == (Why.BEHIND, 2)


async def test_what_keeps_a_job_is_told_from_the_widest_to_its_own(db: Database) -> None:
    await arrive(db, "ann", "a0", "a1")
    await admit(db, limit=1)
    await share(db, "ann", max_in_flight=1)
    told = await why(db, "a1")
    assert (told.reason, told.user_total, told.user_places, told.position) == (Why.USER_FULL, 1, 1, None)
    for name, reason in (
        (user_lane("default", "ann"), Why.USER_PAUSED),
        (LANE, Why.LANE_PAUSED),
        ("*", Why.SERVICE_PAUSED),
    ):
        await db.write(partial(admission.pause, lane=name, seconds=60, reason=f"why {name}"))
        told = await why(db, "a1")
        assert (told.reason, told.detail) == (reason, f"why {name}")
        assert told.retry_at is not None


async def test_a_place_far_down_the_line_is_at_least_so_far(db: Database) -> None:
    await arrive(db, "ann", *(f"a{n:03}" for n in range(330)))
    told = await why(db, "a329")
    assert (told.position, told.exact, told.ahead) == (301, False, 329)


async def test_probing_and_the_minute_are_told(db: Database) -> None:
    await arrive(db, "ann", "a0", "a1")
    await admit(db, limit=1)
    assert (await why(db, "a1", Bounds(9, per_minute={LANE: 1}))).reason is Why.MINUTE_USED
    await db.write(lambda tx: tx.update("lane", {"probing": 1}, "name = :name", {"name": LANE}))
    assert (await why(db, "a1")).reason is Why.LANE_PROBING
