"""Money: what starts fits in every cap, whoever asks at the same time; what does not waits and says so."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from pipeline import admission, ledger, spending
from pipeline.db import Database, Tx
from pipeline.lifecycle import Advance, Cancel, Complete, DeadLetter, Fault, Hold, Step
from pipeline.spending import Bound, Caps, Money, Purse, Shortage, sums, unaffordable
from pipeline.spending.caps import DAY_MS
from providers.base import Operation
from tests.pipeline.engines import Place, Time, transaction
from tests.pipeline.spending_help import (
    AGAIN,
    BUSY,
    REFUSED,
    UNCLEAR,
    USD,
    admit,
    admitted,
    arrive,
    cancel,
    claim_submit,
    intend,
    pay,
    purse,
    record,
    reserved,
    spent,
)

pytestmark = pytest.mark.anyio


async def _notes(db: Database, subject: str) -> list[str]:
    rows = await db.read(
        lambda tx: tx.all("SELECT event FROM timeline WHERE generation_id = :id ORDER BY id", {"id": subject})
    )
    return [row["event"] for row in rows]


async def _until_midnight(db: Database, time: Time) -> None:
    now = await db.read(lambda tx: tx.now)
    time.passes((spending.next_day(now) - now) / 1000 + 1)


@pytest.fixture(autouse=True)
def _noon(db: Database, time: Time) -> None:
    """The day does not end in the middle of a test."""
    now = db.read_now(lambda tx: tx.now)
    time.passes((DAY_MS / 2 - now % DAY_MS) % DAY_MS / 1000)


# --- admission -------------------------------------------------------------------------------------------------------


async def test_what_starts_fits_and_its_money_is_set_aside_in_the_same_commit(db: Database) -> None:
    caps = purse(user="1")
    first, second, third = [await arrive(db, 0.4) for _ in range(3)]
    assert await admit(db, caps) == [first, second]
    assert (await reserved(db), await spent(db, caps)) == (0.8, {"user": 0.8, "a": 0.8})
    assert await _notes(db, third) == ["waiting.spend"]
    assert await db.read(admission.unfunded) == 1


async def test_without_a_cap_nothing_is_set_aside_and_nothing_is_asked(db: Database) -> None:
    await arrive(db, 99)
    assert len(await admit(db, purse())) == 1
    assert await reserved(db) == 0
    mock = await arrive(db, 99, provider="mock")
    default = Purse(Caps.of_texts(user="1", providers="1", service="1", chosen=[], play=["mock"]))
    assert await admit(db, default) == [mock]
    assert await reserved(db) == 0


async def test_a_user_at_the_cap_is_passed_over_and_blocks_nobody(db: Database) -> None:
    caps = purse(user="1")
    for _ in range(300):
        await arrive(db, 0.6)
    bob = await arrive(db, 0.6, user_id="bob")
    nobody = await arrive(db, 0.6, user_id=None)
    elsewhere = await arrive(db, 0.6, tenant_id="other")
    started = await admit(db, caps, limit=4)
    assert {bob, nobody, elsewhere} < set(started)
    assert len(started) == 4
    assert await admit(db, caps) == []


async def test_those_without_a_name_are_one_user_of_their_tenant(db: Database) -> None:
    caps = purse(user="1")
    first, _ = [await arrive(db, 0.6, user_id=None) for _ in range(2)]
    other = await arrive(db, 0.6, user_id=None, tenant_id="other")
    assert await admit(db, caps) == [first, other]


async def test_a_providers_cap_holds_its_own_lane_and_no_other(db: Database) -> None:
    caps = purse(providers="a:1,*:none")
    names = [await arrive(db, 0.6, provider=name, user_id=str(n)) for n, name in enumerate("aabb")]
    assert await admit(db, caps) == [names[0], names[2], names[3]]


async def test_the_whole_services_cap_counts_every_provider(db: Database) -> None:
    caps = purse(service="1")
    names = [await arrive(db, 0.4, provider=name, user_id=str(n)) for n, name in enumerate("abab")]
    started = await admit(db, caps)
    assert len(started) == 2
    assert set(started) < set(names)


async def test_at_midnight_utc_the_day_is_new_and_the_worker_knows_when(db: Database, time: Time) -> None:
    caps = purse(user="1")
    first, second = [await arrive(db, 0.6) for _ in range(2)]
    assert await admit(db, caps) == [first]
    await pay(db, caps)
    assert await admit(db, caps) == []
    now = await db.read(lambda tx: tx.now)
    opening = await db.read(lambda tx: admission.next_opening(tx, admission.Bounds(9), caps))
    assert opening == spending.next_day(now)
    await _until_midnight(db, time)
    assert await db.read(admission.unfunded) == 0
    assert await admit(db, caps) == [second]
    assert await _notes(db, second) == ["waiting.spend"]


async def test_money_that_is_freed_is_used_the_same_day(db: Database, time: Time) -> None:
    caps = purse(user="1")
    first, second, third = [await arrive(db, 0.6) for _ in range(3)]
    assert await admit(db, caps) == [first]
    await pay(db, caps, cost=0.1)
    time.passes(6)
    assert await admit(db, caps) == [second]
    await pay(db, caps, billed=False)
    time.passes(6)
    assert await admit(db, caps) == [third]
    assert await _notes(db, third) == ["waiting.spend"]


async def test_what_is_taken_back_frees_its_money(db: Database, time: Time) -> None:
    caps = purse(service="1")
    first, second = [await arrive(db, 0.6) for _ in range(2)]
    assert await admit(db, caps) == [first]
    await cancel(db, first)
    time.passes(6)
    assert await admit(db, caps) == [second]


async def test_a_cap_that_is_raised_lets_them_start_at_once(db: Database) -> None:
    for _ in range(3):
        await arrive(db, 0.6)
    assert len(await admit(db, purse(user="1"))) == 1
    assert len(await admit(db, purse(user="3"))) == 2


async def test_a_reported_cost_above_the_estimate_is_seen_by_the_next(db: Database) -> None:
    caps = purse(user="1")
    first, _ = await arrive(db, 0.4), await arrive(db, 0.4)
    assert await admit(db, caps, limit=1) == [first]
    await pay(db, caps, cost=5)
    assert (await spent(db, caps))["user"] == 5
    assert await admit(db, caps) == []


async def test_an_unclear_call_counts_with_its_estimate(db: Database) -> None:
    caps = purse(user="1")
    await arrive(db, 0.6)
    await admit(db, caps)
    claim = await claim_submit(db)
    assert claim is not None
    token = await intend(db, caps, claim)
    assert isinstance(token, str)
    await record(db, claim, Hold(None, Fault("x", "y")), lambda tx: ledger.abandon(tx, token, UNCLEAR))
    assert (await spent(db, caps))["user"] == 0.6


async def test_work_that_can_go_elsewhere_is_let_through_a_providers_cap_unpaid(db: Database) -> None:
    caps = purse(providers="a:1,*:9")
    await arrive(db, 0.6, user_id="x")
    can = await arrive(db, 0.6, user_id="y", fallback=True)
    await admit(db, caps)
    assert can in await admitted(db)
    assert await reserved(db) == 0.6
    for _ in range(2):
        claim = await claim_submit(db)
        assert claim is not None
        closed = await intend(db, caps, claim)
        if claim.subject_id == can:
            assert isinstance(closed, admission.Closed)
            assert (closed.alone, closed.fault.code) == (True, "spend_cap")


async def test_who_has_waited_too_long_starts_unpaid_to_be_given_up(db: Database, time: Time) -> None:
    caps = purse(user="0.1")
    caps.patience = 3600
    late = await arrive(db, 0.6)
    assert await admit(db, caps) == []
    time.passes(86_400)
    assert await admit(db, caps) == [late]
    assert await reserved(db) == 0


async def test_who_waited_through_a_pause_by_hand_is_not_given_up_for_it(db: Database, time: Time) -> None:
    caps = purse(user="0.1")
    caps.patience = 3600
    late = await arrive(db, 0.6)
    await db.write(lambda tx: admission.pause(tx, admission.EVERYTHING, seconds=86_400, reason="closed"))
    time.passes(86_400 + 3590)
    assert await admit(db, caps) == []
    time.passes(86_400)
    assert await admit(db, caps) == [late]


async def test_priority_and_the_lanes_bounds_still_hold(db: Database) -> None:
    caps = purse(user="9")
    usual = await arrive(db, 0.1)
    urgent = await arrive(db, 0.1, priority=1)
    assert await admit(db, caps, most=1) == [urgent]
    assert await admit(db, caps, most=2) == [usual]


# --- the intent to pay -----------------------------------------------------------------------------------------------


async def test_a_second_try_takes_its_money_from_what_is_left(db: Database) -> None:
    caps = purse(user="1")
    await arrive(db, 0.6)
    await admit(db, caps)
    claim = await claim_submit(db)
    assert claim is not None
    token = await intend(db, caps, claim)
    assert isinstance(token, str)
    await record(db, claim, AGAIN, lambda tx: ledger.reject(tx, token, REFUSED))
    other = await arrive(db, 0.6, provider="b")
    assert await admit(db, caps) == [other]
    again = await claim_submit(db)
    assert again is not None
    for _ in range(2):
        closed = await intend(db, caps, again) if again.subject_id != other else None
        if closed is not None:
            assert isinstance(closed, admission.Closed)
            assert "0.40 USD is left" in closed.fault.message
            return
        await record(db, again, BUSY)
        again = await claim_submit(db)
        assert again is not None
    raise AssertionError("the first was never tried again")


async def test_a_price_that_rose_is_covered_under_the_lock_or_refused(db: Database) -> None:
    caps = purse(user="1")
    await arrive(db, 0.6)
    await admit(db, caps)
    claim = await claim_submit(db)
    assert claim is not None
    refused = await intend(db, caps, claim, micros=int(1.1 * USD))
    assert isinstance(refused, admission.Closed)
    assert isinstance(await intend(db, caps, claim, micros=int(0.9 * USD)), str)
    assert await spent(db, caps) == {"user": 0.9, "a": 0.9}


# --- early refusal ---------------------------------------------------------------------------------------------------


async def test_what_fits_nowhere_today_is_told_with_what_is_left(db: Database) -> None:
    caps = purse(user="1", providers="a:0.7,*:9")
    await arrive(db, 0.6)
    await admit(db, caps)

    def ask(*prices: tuple[str, int], user: str | None = "ann") -> Shortage | None:
        return db.read_now(lambda tx: unaffordable(tx, caps, "default", user, prices))

    assert ask(("a", 100_000)) is None
    short = ask(("a", 200_000), user="bob")
    assert short is not None
    assert (short.bound, short.name, short.limit_micros, short.left_micros) == (Bound.PROVIDER, "a", 700_000, 100_000)
    assert ask(("a", 200_000), ("b", 200_000), user="bob") is None
    short = ask(("a", 200_000), ("b", 500_000))
    assert short is not None
    assert short.bound is Bound.USER
    assert "SPEND_PER_USER_DAY" in str(short)


# --- many at once ----------------------------------------------------------------------------------------------------


def test_of_a_busy_day_only_the_last_minutes_are_summed_each_time(
    db: Database, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "MANY", 5)
    caps = purse(user="9", service="9")

    def rows(tx: Tx) -> None:
        for number in range(10):
            tx.insert(
                "submission",
                {
                    "id": f"s{number}",
                    "generation_id": f"g{number}",
                    "tenant_id": "default",
                    "user_id": "ann",
                    "run": 1,
                    "provider": "a",
                    "token": f"s{number}",
                    "outcome": "succeeded" if number else "rejected",
                    "operation_id": f"o{number}",
                    "billed": "yes" if number else "no",
                    "estimate_micros": USD,
                    "cost_micros": None if number % 2 else USD // 2,
                    "intended_at": tx.now - (600_000 if number < 8 else 0),
                    "carries": "",
                },
            )

    asyncio.run(_write(db, rows))
    for _ in range(2):
        money = db.read_now(lambda tx: (Money(tx, caps).of_provider("a"), Money(tx, caps).of_user("default", "ann")))
        assert money == (7 * USD, 7 * USD)
    assert caps.settled["a"].micros == 5.5 * USD
    db.read_now(lambda tx: None)
    time.passes(86_400)
    assert db.read_now(lambda tx: Money(tx, caps).of_provider("a")) == 0


async def _write(db: Database, unit: Any) -> None:
    await db.write(unit)


@pytest.mark.parametrize("seed", range(3))
async def test_no_interleaving_breaks_a_cap_and_nothing_stays_set_aside(place: Place, db: Database, seed: int) -> None:
    """Several processes admit, pay, fail, try again, give up and cancel at once; every sum is watched."""
    limits = {"user": "2", "providers": "3", "service": "5"}
    chance = random.Random(seed)
    names = [
        await arrive(db, chance.choice([0.3, 0.5, 0.7]), provider=chance.choice("ab"), user_id=chance.choice("xyz"))
        for _ in range(40)
    ]
    processes = [place.open() for _ in range(3)]
    done = asyncio.Event()

    async def work(mine: Database, number: int) -> None:
        caps, idle = purse(**limits), 0
        luck = random.Random(seed * 10 + number)
        while idle < 8:
            await mine.write(lambda tx: admission.admit(tx, limit=3, bounds=admission.Bounds(9), purse=caps))
            idle = 0 if await _turn(mine, caps, luck, f"w{number}") else idle + 1

    async def watch() -> None:
        while not done.is_set():
            await _check(db, limits)

    async def take_back() -> None:
        for name in chance.sample(names, 5):
            await cancel(processes[0], name)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work(mine, number) for number, mine in enumerate(processes)), take_back())
    done.set()
    await watching
    assert await reserved(db) == 0
    assert (await spent(db, purse(**limits)))["a"] > 0


async def test_two_processes_do_not_give_out_the_same_money(postgres_place: Place) -> None:
    """One has admitted and not yet committed; the other, in another lane, waits for it before it counts."""
    db, caps = postgres_place.open(), purse(service="1")
    await arrive(db, 0.6, provider="b")
    bounds = admission.Bounds(9)
    with transaction(db) as first:
        assert admission.admit(first, limit=9, bounds=bounds, purse=caps) == 1
        await arrive(db, 0.6, provider="a")
        second = asyncio.create_task(
            db.write(lambda tx: admission.admit(tx, limit=9, bounds=bounds, purse=purse(service="1")))
        )
        await asyncio.wait({second}, timeout=0.3)
        assert not second.done()
    assert await second == 0
    assert await reserved(db) == 0.6


async def _turn(db: Database, caps: Purse, luck: random.Random, worker: str) -> bool:
    """One submit turn with any end. False if there was nothing to do."""
    claim = await claim_submit(db, worker)
    if claim is None:
        return False
    token = await intend(db, caps, claim)
    if not isinstance(token, str):
        await record(db, claim, BUSY)
        return False

    def taken(tx: Tx) -> None:
        ledger.accept(tx, token, Operation(token))

    def made(tx: Tx) -> None:
        taken(tx)
        ledger.succeed(tx, token, luck.choice([None, 100_000]))

    def unbilled(tx: Tx) -> None:
        taken(tx)
        ledger.fail(tx, token, REFUSED)

    ends: list[tuple[Any, Any]] = [
        (Advance(Step.STORE), made),
        (Complete(), made),
        (BUSY, lambda tx: ledger.reject(tx, token, REFUSED)),
        (AGAIN, lambda tx: ledger.reject(tx, token, REFUSED)),
        (BUSY, unbilled),
        (Hold(None, Fault("x", "y")), lambda tx: ledger.mark_unknown(tx, token, UNCLEAR, answered=True)),
        (DeadLetter(Fault("x", "y")), lambda tx: ledger.abandon(tx, token, UNCLEAR)),
        (Cancel(), unbilled),
    ]
    decision, fact = luck.choice(ends)
    await record(db, claim, decision, fact)
    return True


async def _check(db: Database, limits: dict[str, str]) -> None:
    def query(tx: Tx) -> None:
        money = Money(tx, purse(**limits))
        providers = [money.of_provider(name) for name in money.providers()]
        assert all(micros <= 3 * USD for micros in providers), providers
        assert sum(providers) <= 5 * USD
        assert all(money.of_user("default", user) <= 2 * USD for user in "xyz")

    await db.read(query)
