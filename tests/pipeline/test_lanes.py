"""Lanes: how much may be under way, how often a provider may be called, and how a closed one is opened again."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import event

from pipeline import admission, ledger, queue
from pipeline.admission import Bounds
from pipeline.cli.stats import status_text
from pipeline.config import SettingsError
from pipeline.db import Database, Row, Tx
from pipeline.lifecycle import Advance, Complete, Fault, Hold, Requeue, Retry, Step
from pipeline.queue import Claim
from pipeline.roster import make_bounds
from providers.base import ErrorCode, Operation, ProviderError, Recovery
from tests.house import make_settings
from tests.pipeline.engines import Place, Time, transaction
from tests.pipeline.queue_help import claim, claim_one, finish, job, new_job

pytestmark = pytest.mark.anyio

LANE = "provider:a"
FAULT = Fault("provider_rate_limited", "slow down")
ERROR = ProviderError(ErrorCode.TRANSIENT, "no answer")
WIDE = Bounds(100)


def test_what_moves_while_it_is_counted_is_counted_once(place: Place) -> None:
    """Between two statements of one count another process may record: what was processing is pending then."""
    db, other = place.open(), place.open()
    with transaction(db) as tx:
        queue.enqueue(tx, new_job("g", lane=LANE, step=Step.SUBMIT))
        queue.claim(tx, worker="w", step=Step.SUBMIT, limit=1, lease=60)
    said: list[str] = []

    def moves(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)
        if len(said) > 1 and db.postgres:
            with transaction(other) as theirs:
                theirs.run("UPDATE job SET status = 'pending', step = 'poll', locked_by = NULL, locked_until = NULL")

    with transaction(db) as tx:
        event.listen(db.engine, "before_cursor_execute", moves)
        counted = admission.in_flight(tx, LANE)
        event.remove(db.engine, "before_cursor_execute", moves)
    assert (counted, len(said)) == (1, 1)


async def arrive(db: Database, *subjects: str, lane: str = LANE, fallback: bool = False) -> None:
    def unit(tx: Tx) -> None:
        for subject in subjects:
            queue.enqueue(
                tx, new_job(subject, lane=lane, step=Step.SUBMIT, waiting=True, sort_at=tx.now, fallback=fallback)
            )

    await db.write(unit)


async def admit(db: Database, bounds: Bounds = WIDE, *, limit: int = 100) -> int:
    return await db.write(lambda tx: admission.admit(tx, limit=limit, bounds=bounds))


async def lane_row(db: Database) -> Row:
    return await db.write(lambda tx: admission.hold_lane(tx, LANE))


async def refused(db: Database, seconds: float = 10.0, reason: str = "quota") -> float:
    """The provider closes its lane; for how long it is closed then."""

    def unit(tx: Tx) -> float:
        admission.note_refusal(tx, LANE, seconds=seconds, reason=reason)
        return float(admission.hold_lane(tx, LANE)["paused_until"] - tx.now) / 1000

    return await db.write(unit)


def intend(tx: Tx, subject: str, token: str) -> bool:
    generation = {"id": subject, "tenant_id": "default", "user_id": None, "run": 1, "provider": "a", "model": None}
    return ledger.intend(tx, generation, token=token, estimate_micros=1, recovery=Recovery(), rings=False)


async def pay(db: Database, held: Claim, bounds: Bounds, *, strict: bool = False) -> str | None:
    """T1: the token of the call, or None where the gate is shut."""
    token = f"{held.subject_id}-{held.fence}"

    def unit(tx: Tx) -> str | None:
        queue.lock(tx, held)
        if admission.gate(tx, held.lane, bounds, strict=strict) is not None:
            return None
        assert intend(tx, held.subject_id, token)
        return token

    return await db.write(unit)


# --- probing ---------------------------------------------------------------------------------------------------------


async def test_after_a_pause_by_the_provider_one_call_at_a_time_is_made(db: Database, time: Time) -> None:
    await arrive(db, "g1", "g2", "g3")
    await refused(db)
    assert await admit(db) == 0
    time.passes(11)
    assert await admit(db) == 1
    assert await admit(db) == 0
    held = await claim_one(db, step=Step.SUBMIT)
    assert await admit(db) == 0, "the probe is under way"
    assert await pay(db, held, WIDE) is not None
    assert await admit(db) == 0
    await finish(db, held, Advance(Step.POLL))
    assert await admit(db) == 1, "not accepted by word of the provider: the next probe"
    await db.write(lambda tx: admission.note_answer(tx, LANE, well=True))
    assert await admit(db) == 1
    row = await lane_row(db)
    assert (row["probing"], row["paused_until"], row["paused_reason"]) == (0, None, None)


async def test_a_pause_by_hand_needs_no_probe(db: Database, time: Time) -> None:
    await arrive(db, "g1", "g2", "g3")
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=10, reason="lunch"))
    time.passes(11)
    assert await admit(db) == 3


async def test_a_refused_probe_closes_for_twice_as_long_up_to_a_bound(db: Database, time: Time) -> None:
    seen = []
    for _ in range(9):
        seen.append(await refused(db, 10))
        time.passes(seen[-1] + 1)
    assert seen == pytest.approx([10, 20, 40, 80, 160, 320, 640, 900, 900], abs=1)
    assert await refused(db, 5000) == pytest.approx(5000, abs=1), "LANE_PAUSE may be longer"
    time.passes(5001)
    await db.write(lambda tx: admission.note_answer(tx, LANE, well=True))
    assert await refused(db, 10) == pytest.approx(10, abs=1), "it begins anew"


async def test_what_was_under_way_when_the_lane_closed_doubles_nothing(db: Database) -> None:
    first = [await refused(db, 10) for _ in range(16)]
    assert max(first) <= 11
    assert await refused(db, 60) == pytest.approx(60, abs=1), "but it may ask for more"
    assert (await lane_row(db))["probing"] == 1


async def test_an_answer_to_what_was_under_way_when_the_lane_closed_does_not_open_it(db: Database, time: Time) -> None:
    await arrive(db, "g1", "g2")
    await refused(db, 10)
    await db.write(lambda tx: admission.note_answer(tx, LANE, well=True))
    assert (await lane_row(db))["probing"] == 1
    time.passes(11)
    await db.write(lambda tx: admission.note_answer(tx, LANE))
    assert (await lane_row(db))["probing"] == 1, "a clear answer that says nothing of its health"
    assert await admit(db) == 1


async def test_an_operator_opens_a_lane_without_a_probe(db: Database) -> None:
    await arrive(db, "g1", "g2")
    await refused(db)
    assert await db.write(lambda tx: admission.resume(tx, LANE))
    assert await admit(db) == 2


async def test_what_the_provider_says_cuts_no_pause_by_hand_short(db: Database) -> None:
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=3600, reason="by hand"))
    assert await refused(db, 10) > 3500
    assert (await lane_row(db))["paused_reason"] == "by hand"


async def test_jobs_left_from_before_the_pause_are_probes_too(db: Database, time: Time) -> None:
    """Three were admitted before the lane closed; a retry among them comes due by itself, past admission."""
    await arrive(db, "g1", "g2", "g3")
    assert await admit(db) == 3
    held = await claim(db, step=Step.SUBMIT)
    await refused(db, 1)
    time.passes(2)
    assert [await pay(db, each, WIDE) for each in held] == [None, None, None], "none is the only one"
    for each in held[:2]:
        await finish(db, each, Requeue(0.0, FAULT))
    assert await pay(db, held[2], WIDE) is not None
    assert await admit(db) == 0


async def test_a_job_that_waits_for_its_next_try_hinders_no_probe(db: Database, time: Time) -> None:
    await arrive(db, "g1", "g2")
    await admit(db, limit=1)
    await finish(db, await claim_one(db, step=Step.SUBMIT), Retry(300.0, FAULT))
    await refused(db, 1)
    time.passes(2)
    assert await admit(db) == 1


async def test_three_unknown_outcomes_are_probed_afterwards(db: Database, time: Time) -> None:
    await arrive(db, "g1", "g2")
    for _ in range(3):
        await db.write(lambda tx: admission.note_unknown(tx, LANE, seconds=10))
    time.passes(11)
    assert await admit(db) == 1
    assert await db.write(lambda tx: admission.note_unknown(tx, LANE, seconds=10)), "the streak goes on"
    row = await lane_row(db)
    assert row["probing"] == 2


# --- what goes on elsewhere ------------------------------------------------------------------------------------------


async def test_of_a_paused_lane_those_go_on_that_can_be_asked_elsewhere(db: Database) -> None:
    await arrive(db, "alone 1", "alone 2")
    await arrive(db, *(f"chained {n}" for n in range(5)), fallback=True)
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="x"))
    assert await admit(db, Bounds(1), limit=3) == 3, "whatever the lane's bound"
    assert await admit(db, Bounds(1), limit=3) == 0, "not without bound"
    held = await claim(db, step=Step.SUBMIT)
    assert [each.subject_id for each in held] == ["chained 0", "chained 1", "chained 2"]
    assert await admit(db, limit=3) == 0
    for each in held:
        await finish(db, each, Complete())
    assert await admit(db, limit=3) == 2, "nobody starves"


async def test_of_a_service_that_is_paused_as_a_whole_nothing_goes_on(db: Database) -> None:
    await arrive(db, "g1", fallback=True)
    await db.write(lambda tx: admission.pause(tx, admission.EVERYTHING, seconds=60, reason="x"))
    await refused(db)
    assert await admit(db) == 0
    closed = await db.read(lambda tx: admission.closed(tx, LANE))
    assert closed is not None
    assert not closed.alone


async def test_who_was_let_through_pays_nobody_beyond_the_bound_once_the_lane_is_open(db: Database) -> None:
    await arrive(db, "g0")
    await admit(db)
    await finish(db, await claim_one(db, step=Step.SUBMIT), Advance(Step.POLL, 600))
    await arrive(db, "g1", "g2", fallback=True)
    await db.write(lambda tx: admission.pause(tx, LANE, seconds=60, reason="x"))
    await admit(db, Bounds(1))
    held = await claim(db, step=Step.SUBMIT)
    await db.write(lambda tx: admission.resume(tx, LANE))
    assert [await pay(db, each, Bounds(1), strict=True) for each in held] == [None, None]


# --- in flight -------------------------------------------------------------------------------------------------------


async def test_each_provider_has_its_own_number(db: Database) -> None:
    bounds = Bounds(2, in_flight={LANE: 3})
    await arrive(db, *(f"a{n}" for n in range(5)))
    await arrive(db, *(f"b{n}" for n in range(5)), lane="provider:b")
    assert await admit(db, bounds) == 5
    assert await db.read(lambda tx: admission.in_flight(tx, LANE)) == 3


async def test_an_unknown_call_is_in_flight_while_its_work_may_go_on_and_not_for_ever(db: Database, time: Time) -> None:
    bounds = Bounds(1, unclear_seconds=100)
    await arrive(db, "g1", "g2")
    await admit(db, bounds)
    held = await claim_one(db, step=Step.SUBMIT)
    token = await pay(db, held, bounds)
    assert token is not None
    await db.write(lambda tx: ledger.mark_unknown(tx, token, ERROR, answered=True))
    await finish(db, held, Hold(None, FAULT))
    assert await admit(db, bounds) == 0, "a person looks at it, and the provider may work"
    await db.write(lambda tx: ledger.abandon(tx, token, ERROR))
    assert await admit(db, bounds) == 0, "who gives it up does not stop the provider"
    time.passes(101)
    assert await admit(db, bounds) == 1


# --- the rate --------------------------------------------------------------------------------------------------------

RATE = Bounds(100, per_minute={LANE: 3})


async def accept_all(db: Database, bounds: Bounds = RATE) -> int:
    """Admit, pay and be accepted, as long as that goes; how many calls that were."""
    paid = 0
    while await admit(db, bounds):
        for held in await claim(db, step=Step.SUBMIT):
            token = await pay(db, held, bounds)
            assert token is not None
            await db.write(partial(ledger.accept, token=token, operation=Operation(token)))
            await finish(db, held, Advance(Step.POLL, 600))
            paid += 1
    return paid


async def test_a_minute_has_no_more_calls_than_the_rate(db: Database, time: Time) -> None:
    await arrive(db, *(f"g{n}" for n in range(8)))
    assert await accept_all(db) == 3
    time.passes(20)
    assert await accept_all(db) == 0
    time.passes(41)
    assert await accept_all(db) == 3
    assert await db.read(lambda tx: admission.calls(tx, LANE)) == 3


async def test_what_is_admitted_counts_as_a_call_to_come(db: Database) -> None:
    await arrive(db, *(f"g{n}" for n in range(8)))
    assert await admit(db, RATE) == 3
    assert await admit(db, RATE) == 0
    held = await claim(db, step=Step.SUBMIT, limit=2)
    assert await admit(db, RATE) == 0
    assert await pay(db, held[0], RATE) is not None
    assert await admit(db, RATE) == 0, "a call under way is counted once"
    await finish(db, held[1], Complete())
    assert await admit(db, RATE) == 1, "what ended without a call left its place"


async def test_a_retry_asks_for_its_place_in_the_minute(db: Database, time: Time) -> None:
    await arrive(db, "g1", "g2", "g3", "g4")
    await admit(db, RATE)
    first, *_ = held = await claim(db, step=Step.SUBMIT)
    for each in held:
        assert await pay(db, each, RATE) is not None
    await db.write(lambda tx: ledger.reject(tx, f"{first.subject_id}-{first.fence}", ERROR))
    await finish(db, first, Retry(0.0, FAULT))
    again = await claim_one(db, step=Step.SUBMIT)
    assert (again.subject_id, again.attempts) == ("g1", 1)
    assert await pay(db, again, RATE, strict=True) is None, "the fourth call of this minute"
    await finish(db, again, Requeue(0.0, FAULT))
    assert (await job(db, "g1"))["attempts"] == 1, "which costs no attempt"
    assert await admit(db, RATE) == 0
    time.passes(61)
    assert await admit(db, RATE) == 2


async def test_the_worker_knows_when_the_rate_allows_the_next(db: Database, time: Time) -> None:
    async def opening() -> int | None:
        return await db.read(lambda tx: admission.next_opening(tx, RATE))

    await arrive(db, "g1")
    assert await opening() is None
    assert await accept_all(db) == 1
    at = (await db.read(lambda tx: tx.value("SELECT min(intended_at) FROM submission"))) + 60_000
    time.passes(10)
    await arrive(db, "g2", "g3")
    assert await accept_all(db) == 2
    assert await opening() is None, "nobody waits"
    await arrive(db, "g4", "g5")
    assert await accept_all(db) == 0
    assert await opening() == at
    time.passes(51)
    assert await accept_all(db) == 1
    opened = await opening()
    assert opened is not None
    assert 0 < opened - at <= 12_000


async def test_the_rate_is_exact_however_many_processes_ask(place: Place) -> None:
    """Four processes admit, pay, are refused and try again, all at once; time moves on now and then."""
    doors = [place.open() for _ in range(4)]
    await arrive(doors[0], *(f"g{n:02}" for n in range(40)))
    rate = 5
    bounds = Bounds(100, per_minute={LANE: rate})

    async def turn(db: Database, held: Claim, number: int) -> None:
        token = await pay(db, held, bounds, strict=held.attempts > 0)
        if token is None:
            return await finish(db, held, Requeue(0.0, FAULT))
        if number % 3 == 0 and held.attempts == 0:
            await db.write(lambda tx: ledger.reject(tx, token, ERROR))
            return await finish(db, held, Retry(0.0, FAULT))
        await db.write(lambda tx: ledger.accept(tx, token, Operation(token)))
        return await finish(db, held, Complete())

    async def work(db: Database, name: str) -> None:
        for number in range(60):
            await admit(db, bounds, limit=3)
            for held in await claim(db, name, step=Step.SUBMIT, limit=2, lease=10_000.0):
                await turn(db, held, number)
            if name == "w0" and number % 10 == 9:
                place.time.passes(25)

    await asyncio.gather(*(work(db, f"w{n}") for n, db in enumerate(doors)))
    times = [
        row["intended_at"]
        for row in await doors[0].read(lambda tx: tx.all("SELECT intended_at FROM submission ORDER BY intended_at"))
    ]
    assert len(times) > rate
    for position, began in enumerate(times):
        within = [other for other in times[position:] if other < began + 60_000]
        assert len(within) <= rate, "in no 60 seconds are there more"


# --- settings --------------------------------------------------------------------------------------------------------


def test_numbers_are_read_by_lane(tmp_path: Path) -> None:
    numbers = {"provider_max_in_flight": "fal:40,runway:5", "requests_per_minute": "fal:60", "generation_timeout": 7}
    bounds = make_bounds(make_settings(tmp_path, max_in_flight=9, **numbers))
    assert bounds == Bounds(9, {"provider:fal": 40, "provider:runway": 5}, {"provider:fal": 60}, 7)


@pytest.mark.parametrize("wrong", ["fal", "fal:", "fal:0", "fal:-1", "fal:1.5", ":4", "fal:4,fal:5", "fal:9999999"])
@pytest.mark.parametrize("name", ["provider_max_in_flight", "requests_per_minute"])
def test_a_number_that_is_none_is_refused(tmp_path: Path, name: str, wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"fal:40|twice"):
        make_settings(tmp_path, **{name: wrong})


@pytest.mark.parametrize("name", ["provider_max_in_flight", "requests_per_minute"])
def test_a_provider_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name.upper()}: there is no provider 'fall'"):
        make_bounds(make_settings(tmp_path, **{name: "fall:4"}))


# --- as people see it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"probing": True, "pausedReason": "quota"}, "probing, one call at a time, after: quota"),
        ({"paused": True, "pausedUntil": "noon", "pausedReason": "quota", "probing": True}, "paused until noon: quota"),
        ({"requestsPerMinute": 60, "requestsLastMinute": 7}, "1/40       7/60"),
    ],
)
def test_the_command_shows_what_a_lane_is_at(shown: dict[str, object], words: str) -> None:
    lane = {"name": LANE, "inFlight": 1, "maxInFlight": 40, "paused": False, "pausedUntil": None}
    lane |= {"pausedReason": None, "probing": False, "requestsPerMinute": None, "requestsLastMinute": None}
    counted: dict[str, dict[str, int]] = {"byStatus": {}, "byStep": {}}
    status = {"at": "now", "generations": counted, "deliveries": counted, "lanes": [lane | shown], "held": 0}
    assert words in status_text(status)
