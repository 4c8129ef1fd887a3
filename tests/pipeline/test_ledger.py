"""Money: what may have been paid is never forgotten, and a second paid call cannot even be intended."""

from __future__ import annotations

import asyncio

import pytest

from pipeline import ledger
from pipeline.db import Database, Row, Tx
from pipeline.workflow.unclaimed import strays_of
from providers.base import ErrorCode, Operation, ProviderError, Recovery
from tests.pipeline.engines import Place

pytestmark = pytest.mark.anyio

LOST = ProviderError(ErrorCode.TRANSIENT, "the connection was cut")
REFUSED = ProviderError(ErrorCode.INVALID_REQUEST, "no such model", billed=False)
OPERATION = Operation("op-1", {"region": "eu"})
FREE = ProviderError(ErrorCode.PROVIDER_ERROR, "the provider broke", billed=False)
PAID = ProviderError(ErrorCode.PROVIDER_ERROR, "the provider broke", billed=True)


def generation(name: str = "gen_1", *, run: int = 1) -> Row:
    return {"id": name, "tenant_id": "default", "user_id": "u", "run": run, "provider": "mock", "model": "m"}


def intend(tx: Tx, token: str, name: str = "gen_1", *, run: int = 1) -> bool:
    return ledger.intend(tx, generation(name, run=run), token=token, estimate_micros=500_000, recovery=Recovery())


async def row(db: Database, token: str) -> Row:
    found = await db.read(lambda tx: ledger.by_token(tx, token))
    assert found is not None
    return found


async def prepare(db: Database, token: str, outcome: str) -> None:
    """A submission that has come to an outcome by the ledger's own functions."""

    def unit(tx: Tx) -> None:
        assert intend(tx, token)
        if outcome in {"unknown", "abandoned"}:
            ledger.mark_unknown(tx, token, LOST, answered=True)
        if outcome in {"accepted", "succeeded", "failed"}:
            ledger.accept(tx, token, OPERATION)
        match outcome:
            case "abandoned":
                ledger.abandon(tx, token, LOST)
            case "rejected":
                ledger.reject(tx, token, REFUSED)
            case "succeeded":
                ledger.succeed(tx, token, None)
            case "failed":
                ledger.fail(tx, token, PAID, 7)

    await db.write(unit)
    assert (await row(db, token))["outcome"] == outcome


OPEN = ("intended", "accepted", "unknown")
CLOSED = ("succeeded", "failed", "rejected", "abandoned")


@pytest.mark.parametrize("outcome", OPEN)
async def test_a_second_call_cannot_be_intended_while_one_is_open(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    assert not await db.write(lambda tx: intend(tx, "t2"))
    assert not await db.write(lambda tx: intend(tx, "t2", run=2)), "a new run is no excuse"
    assert await db.write(lambda tx: intend(tx, "t3", "gen_2")), "another generation is free to"


@pytest.mark.parametrize("outcome", CLOSED)
async def test_a_new_call_may_be_intended_after_one_is_closed(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    assert await db.write(lambda tx: intend(tx, "t2"))


@pytest.mark.parametrize("outcome", OPEN)
async def test_the_table_itself_refuses_a_second_open_submission(db: Database, outcome: str) -> None:
    await prepare(db, "t1", "rejected")
    await db.write(lambda tx: intend(tx, "t2"))
    sql = "UPDATE submission SET outcome = :outcome, operation_id = 'op' WHERE token = 't1'"
    with pytest.raises(Exception, match=r"(?i)unique"):
        await db.write(lambda tx: tx.run(sql, {"outcome": outcome}))


async def test_of_many_who_intend_at_once_one_succeeds(place: Place) -> None:
    doors = [place.open() for _ in range(3)]
    won = await asyncio.gather(
        *(db.write(lambda tx, n=n, m=m: intend(tx, f"t{n}-{m}")) for n, db in enumerate(doors) for m in range(5))
    )
    assert sum(won) == 1


async def test_the_table_refuses_an_acceptance_without_an_operation(db: Database) -> None:
    await prepare(db, "t1", "intended")
    with pytest.raises(Exception, match="submission_operation"):
        await db.write(lambda tx: tx.run("UPDATE submission SET outcome = 'accepted'"))


# --- facts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["intended", "unknown", "abandoned", "rejected"])
async def test_an_acceptance_repairs_whatever_was_believed_before(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    assert await db.write(lambda tx: ledger.accept(tx, "t1", OPERATION))
    after = await row(db, "t1")
    assert (after["outcome"], after["operation_id"], after["operation"]) == ("accepted", "op-1", '{"region": "eu"}')
    assert (after["closed_at"], after["billed"], after["cost_micros"]) == (None, "unknown", None)
    assert (await db.read(lambda tx: ledger.open_submission(tx, "gen_1"))) == after


@pytest.mark.parametrize("outcome", ["accepted", "succeeded", "failed"])
async def test_an_acceptance_that_is_told_again_changes_nothing(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    before = await row(db, "t1")
    assert not await db.write(lambda tx: ledger.accept(tx, "t1", Operation("op-2")))
    assert await row(db, "t1") == before


@pytest.mark.parametrize("outcome", ["abandoned", "rejected"])
async def test_a_late_acceptance_reopens_nothing_while_another_is_open(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    await db.write(lambda tx: intend(tx, "t2"))
    before = await row(db, "t1")
    assert await db.write(lambda tx: ledger.accept(tx, "t1", OPERATION)), "but it learns what was paid for"
    after = await row(db, "t1")
    assert (after["outcome"], after["operation_id"], after["billed"]) == (outcome, "op-1", "unknown")
    assert after["closed_at"] == before["closed_at"]
    found = await db.read(lambda tx: ledger.open_submission(tx, "gen_1"))
    assert found is not None
    assert found["token"] == "t2"


@pytest.mark.parametrize("outcome", ["intended", "unknown"])
async def test_a_rejection_closes_at_no_cost(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    await db.write(lambda tx: ledger.reject(tx, "t1", REFUSED))
    after = await row(db, "t1")
    assert (after["outcome"], after["billed"], after["cost_micros"]) == ("rejected", "no", 0)
    assert (after["error_code"], after["error_message"]) == (REFUSED.code, "no such model")
    assert after["closed_at"] is not None


@pytest.mark.parametrize("outcome", ["accepted", "succeeded", "failed", "abandoned"])
async def test_an_accepted_or_closed_call_can_be_neither_rejected_nor_abandoned(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    before = await row(db, "t1")
    await db.write(lambda tx: ledger.reject(tx, "t1", REFUSED))
    await db.write(lambda tx: ledger.abandon(tx, "t1", LOST))
    await db.write(lambda tx: ledger.mark_unknown(tx, "t1", LOST, answered=True))
    assert await row(db, "t1") == before


async def test_what_is_abandoned_may_have_cost_something(db: Database) -> None:
    await prepare(db, "t1", "abandoned")
    after = await row(db, "t1")
    assert (after["billed"], after["cost_micros"]) == ("unknown", None)


async def test_an_unknown_outcome_says_whether_an_answer_of_our_own_can_still_come(db: Database) -> None:
    await prepare(db, "t1", "intended")
    await db.write(lambda tx: ledger.mark_unknown(tx, "t1", LOST, answered=False))
    assert (await row(db, "t1"))["answered_at"] is None
    await db.write(lambda tx: ledger.mark_unknown(tx, "t1", LOST, answered=True))
    first = await row(db, "t1")
    assert first["answered_at"] is not None
    await db.write(lambda tx: ledger.mark_unknown(tx, "t1", LOST, answered=False))
    assert (await row(db, "t1"))["answered_at"] == first["answered_at"]


@pytest.mark.parametrize(("reported", "cost"), [(None, 500_000), (123, 123), (0, 0)])
async def test_success_costs_what_is_reported_or_else_the_estimate(
    db: Database, reported: int | None, cost: int
) -> None:
    await prepare(db, "t1", "accepted")
    for _ in range(2):
        await db.write(lambda tx: ledger.succeed(tx, "t1", reported))
    after = await row(db, "t1")
    assert (after["outcome"], after["billed"], after["cost_micros"]) == ("succeeded", "yes", cost)


@pytest.mark.parametrize(
    ("error", "reported", "billed", "cost"),
    [
        (FREE, None, "no", 0),
        (FREE, 0, "no", 0),
        (FREE, 99, "yes", 99),
        (PAID, 99, "yes", 99),
        (PAID, None, "yes", None),
        (LOST, None, "unknown", None),
        (LOST, 99, "yes", 99),
    ],
)
async def test_a_failure_costs_what_the_provider_says_of_it(
    db: Database, error: ProviderError, reported: int | None, billed: str, cost: int | None
) -> None:
    await prepare(db, "t1", "accepted")
    await db.write(lambda tx: ledger.fail(tx, "t1", error, reported))
    after = await row(db, "t1")
    assert (after["outcome"], after["billed"], after["cost_micros"]) == ("failed", billed, cost)


@pytest.mark.parametrize("outcome", ["intended", "unknown"])
async def test_only_an_accepted_call_can_succeed_or_fail(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    before = await row(db, "t1")
    await db.write(lambda tx: ledger.succeed(tx, "t1", 1))
    await db.write(lambda tx: ledger.fail(tx, "t1", PAID))
    assert await row(db, "t1") == before


async def test_a_run_counts_the_calls_that_may_have_been_taken(db: Database) -> None:
    for token, outcome in (("t1", "rejected"), ("t2", "failed"), ("t3", "abandoned"), ("t4", "accepted")):
        await prepare(db, token, outcome)
    assert await db.read(lambda tx: ledger.count(tx, "gen_1", 1)) == 3
    assert await db.read(lambda tx: ledger.count(tx, "gen_1", 2)) == 0
    assert [each["token"] for each in await db.read(lambda tx: ledger.history(tx, "gen_1"))] == ["t1", "t2", "t3", "t4"]


@pytest.mark.parametrize(
    ("code", "counted"),
    [
        (ErrorCode.RATE_LIMITED, 0),
        (ErrorCode.AUTH, 0),
        (ErrorCode.QUOTA, 0),
        (ErrorCode.TRANSIENT, 0),
        (ErrorCode.NOT_FOUND, 1),
    ],
)
async def test_a_refused_call_does_not_count_but_one_that_a_lookup_missed_does(
    db: Database, code: ErrorCode, counted: int
) -> None:
    await prepare(db, "t1", "unknown")
    await db.write(lambda tx: ledger.reject(tx, "t1", ProviderError(code, "no", billed=False)))
    assert await db.read(lambda tx: ledger.count(tx, "gen_1", 1)) == counted


@pytest.mark.parametrize(
    ("outcome", "may"),
    [(outcome, outcome != "rejected") for outcome in (*OPEN, *CLOSED)],
)
async def test_a_generation_may_have_cost_something_unless_all_its_calls_are_known_to_be_free(
    db: Database, outcome: str, may: bool
) -> None:
    assert not await db.read(lambda tx: ledger.may_have_cost(tx, "gen_1"))
    await prepare(db, "t1", outcome)
    assert await db.read(lambda tx: ledger.may_have_cost(tx, "gen_1")) == may
    assert not await db.read(lambda tx: ledger.may_have_cost(tx, "gen_2"))


async def test_a_failure_that_was_not_billed_cost_nothing(db: Database) -> None:
    await prepare(db, "t1", "accepted")
    await db.write(lambda tx: ledger.fail(tx, "t1", FREE))
    assert not await db.read(lambda tx: ledger.may_have_cost(tx, "gen_1"))


@pytest.mark.parametrize("outcome", [*OPEN, *CLOSED])
async def test_a_callbacks_word_is_kept_unless_it_says_what_we_know(db: Database, outcome: str) -> None:
    await prepare(db, "t1", outcome)
    known = (await row(db, "t1"))["operation_id"]
    if known is not None:
        await db.write(lambda tx: ledger.add_candidate(tx, "t1", known))
        assert (await row(db, "t1"))["candidate_operation_id"] is None
    await db.write(lambda tx: ledger.add_candidate(tx, "t1", "another"))
    found = await row(db, "t1")
    assert found["candidate_operation_id"] == "another"
    open_anyway = outcome in {"intended", "unknown"}
    assert bool(strays_of([found], ended=False)) is not open_anyway, "what is open is cleared up by the resolve stage"
    await db.write(lambda tx: ledger.drop_candidate(tx, "t1", "another"))
    assert (await row(db, "t1"))["candidate_operation_id"] is None


@pytest.mark.parametrize(
    ("candidate", "stray"),
    [("operations/7", False), ("models/veo/operations/7", False), (None, False), ("operations/8", True)],
)
async def test_the_short_form_of_a_name_is_no_second_operation(candidate: str | None, stray: bool) -> None:
    known = {"outcome": "accepted", "operation_id": "models/veo/operations/7", "candidate_operation_id": candidate}
    assert bool(strays_of([known], ended=False)) is stray


async def test_a_second_operation_of_a_submission_is_a_row_of_its_own(db: Database) -> None:
    await prepare(db, "t1", "accepted")
    stopped = ProviderError(ErrorCode.CANCELLED, "a second one", billed=False)
    assert await db.write(lambda tx: ledger.close_second(tx, "t1", "another", stopped))
    assert not await db.write(lambda tx: ledger.close_second(tx, "t1", "another", stopped)), "only once"
    first, second = await db.read(lambda tx: ledger.history(tx, "gen_1"))
    assert (first["outcome"], first["billed"]) == ("accepted", "unknown")
    assert (second["outcome"], second["billed"], second["cost_micros"]) == ("failed", "no", 0)
    assert second["operation_id"] == "another"


async def test_what_is_answered_for_one_that_was_closed_meanwhile_is_closed_as_a_second(db: Database) -> None:
    await prepare(db, "t1", "rejected")
    assert await db.write(lambda tx: intend(tx, "t2"))
    await db.write(lambda tx: ledger.accept(tx, "t1", Operation("op-1")))
    assert [
        each["token"] for each in strays_of(await db.read(lambda tx: ledger.history(tx, "gen_1")), ended=False)
    ] == ["t1"]
    unclear = ProviderError(ErrorCode.CANCELLED, "a second one")
    assert await db.write(lambda tx: ledger.close_second(tx, "t1", "op-1", unclear))
    found = await row(db, "t1")
    assert (found["outcome"], found["billed"], found["cost_micros"]) == ("failed", "unknown", None)
    assert not strays_of(await db.read(lambda tx: ledger.history(tx, "gen_1")), ended=False)


async def test_what_a_generation_was_billed_is_the_worst_of_its_submissions(db: Database) -> None:
    async def billed() -> str:
        return await db.read(lambda tx: ledger.billed(tx, "gen_1"))

    assert await billed() == "no", "nothing was submitted"
    await prepare(db, "t1", "rejected")
    assert await billed() == "no"
    await prepare(db, "t2", "accepted")
    assert await billed() == "unknown"
    await db.write(lambda tx: ledger.note_billed(tx, "t2", None))
    assert await billed() == "unknown"
    await db.write(lambda tx: ledger.note_billed(tx, "t2", True))
    assert await billed() == "yes"


async def test_a_callback_is_carried_only_where_the_provider_was_told_where_to_ring() -> None:
    offered = Recovery(idempotency_seconds=1.0, callback_seconds=1.0)
    assert ledger.carriers(offered, rings=True) == ["key", "callback"]
    assert ledger.carriers(offered, rings=False) == ["key"]
