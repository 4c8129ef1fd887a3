"""What follows from what: the table of outcomes and decisions, the moves, and the waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lifecycle import (
    MOVES,
    TERMINAL,
    Advance,
    Busy,
    Cancel,
    Complete,
    DeadLetter,
    Decision,
    Done,
    Elsewhere,
    Fail,
    Failed,
    Fallback,
    Fault,
    GenerationStatus,
    Hold,
    IllegalMove,
    NotYet,
    Outcome,
    Parked,
    Requeue,
    Retry,
    RetryPolicy,
    Snooze,
    Step,
    Stopped,
    Unknown,
    decide,
    move,
)

FAULT = Fault("provider_error", "it broke")
POLICY = RetryPolicy(max_attempts=3, base=2.0, cap=60.0)
MIDDLE = 0.5
"""The jitter that changes nothing."""

RETRYABLE = Failed(FAULT, retryable=True)
ASKED = Failed(FAULT, retryable=True, retry_after=90.0)
HASTY = Failed(FAULT, retryable=True, retry_after=0.5)

# outcome, failures so far, what follows
USUAL: list[tuple[Outcome, int, Decision]] = [
    (Done(), 0, Complete()),
    (Done(Step.POLL, 5.0), 2, Advance(Step.POLL, 5.0)),
    (Done(Step.SUBMIT), 0, Advance(Step.SUBMIT)),
    (NotYet(7.0), 2, Snooze(7.0)),
    (Busy(FAULT, 3.0), 2, Requeue(3.0, FAULT)),
    (Busy(FAULT, stays=True), 2, Requeue(0.0, FAULT, stays=True)),
    (Elsewhere(FAULT, "provider:b", more=True), 2, Fallback(0.0, FAULT, "provider:b", more=True)),
    (Elsewhere(FAULT, "provider:b", more=False, after=3.0), 0, Fallback(3.0, FAULT, "provider:b", more=False)),
    (Unknown(FAULT, 1.0), 0, Hold(1.0, FAULT)),
    (Parked(FAULT), 0, Hold(None, FAULT)),
    (Stopped(), 0, Cancel()),
    (RETRYABLE, 0, Retry(2.0, FAULT)),
    (RETRYABLE, 1, Retry(4.0, FAULT)),
    (RETRYABLE, 2, DeadLetter(FAULT)),
    (RETRYABLE, 9, DeadLetter(FAULT)),
    (ASKED, 0, Retry(90.0, FAULT)),
    (HASTY, 0, Retry(2.0, FAULT)),
    (Failed(FAULT), 0, Fail(FAULT)),
    (Failed(FAULT, exhausted=True), 0, DeadLetter(FAULT)),
]

# outcome, the steps at which a cancel changes it so (all others: the job ends cancelled)
KEPT: dict[Outcome, dict[Step, Decision]] = {
    Done(): dict.fromkeys(Step, Complete()),
    Done(Step.POLL, 5.0): dict.fromkeys(Step, Advance(Step.POLL)),
    Done(Step.STORE, 5.0): dict.fromkeys(Step, Advance(Step.STORE)),
    NotYet(7.0): {Step.POLL: Snooze(7.0)},
    RETRYABLE: {Step.POLL: Retry(2.0, FAULT)},
    ASKED: {Step.POLL: Retry(90.0, FAULT)},
    Done(Step.SUBMIT): {},
    Done(Step.RESOLVE): {},
    Busy(FAULT, 3.0): {},
    Elsewhere(FAULT, "provider:b", more=False): {},
    Unknown(FAULT, 1.0): {},
    Parked(FAULT): {},
    Stopped(): {},
    Failed(FAULT): {},
    Failed(FAULT, exhausted=True): {},
}


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(("outcome", "attempts", "expected"), USUAL)
def test_an_outcome_has_one_decision_whatever_the_step(
    outcome: Outcome, attempts: int, expected: Decision, step: Step
) -> None:
    got = decide(outcome, step=step, attempts=attempts, policy=POLICY, cancel_requested=False, jitter=MIDDLE)
    assert got == expected


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("outcome", KEPT)
def test_a_cancel_ends_all_but_what_is_finished_or_runs_at_the_provider(outcome: Outcome, step: Step) -> None:
    got = decide(outcome, step=step, attempts=0, policy=POLICY, cancel_requested=True, jitter=MIDDLE)
    assert got == KEPT[outcome].get(step, Cancel())


def test_a_cancelled_poll_that_has_no_try_left_ends() -> None:
    got = decide(RETRYABLE, step=Step.POLL, attempts=2, policy=POLICY, cancel_requested=True, jitter=MIDDLE)
    assert got == Cancel()


def test_the_tables_know_every_outcome() -> None:
    kinds = {type(outcome) for outcome, _, _ in USUAL}
    assert kinds == set(Outcome.__args__) == {type(outcome) for outcome in KEPT}


def test_decisions_carry_delays_that_no_jitter_makes_negative() -> None:
    for jitter in (0.0, 1.0):
        got = decide(RETRYABLE, step=Step.POLL, attempts=0, policy=POLICY, cancel_requested=False, jitter=jitter)
        assert isinstance(got, Retry)
        assert got.delay == pytest.approx(1.6 if jitter == 0.0 else 2.4)


@pytest.mark.parametrize("current", GenerationStatus)
@pytest.mark.parametrize("to", GenerationStatus)
def test_only_known_moves_are_made(current: GenerationStatus, to: GenerationStatus) -> None:
    if to in MOVES[current]:
        assert move(current, to) is to
    else:
        with pytest.raises(IllegalMove, match=f"{current} -> {to}"):
            move(current, to)


def test_what_is_completed_or_cancelled_never_moves_and_what_failed_only_by_a_redrive() -> None:
    assert {status for status in GenerationStatus if not MOVES[status]} == TERMINAL - {GenerationStatus.FAILED}
    assert not MOVES[GenerationStatus.FAILED] & TERMINAL


def test_waits_double_up_to_the_cap() -> None:
    assert [POLICY.delay(n, MIDDLE) for n in (1, 2, 3, 4, 5, 6, 100_000)] == [2, 4, 8, 16, 32, 60, 60]


def test_a_schedule_gives_its_waits_and_repeats_its_last() -> None:
    policy = RetryPolicy(4, schedule=(0.0, 5.0, 60.0))
    assert [policy.delay(n, MIDDLE) for n in (1, 2, 3, 9)] == [5, 60, 60, 60]


@given(attempts=st.integers(1, 1000), jitter=st.floats(0, 1), schedule=st.lists(st.floats(0, 1e6), max_size=5))
def test_jitter_spreads_by_a_fifth_either_way(attempts: int, jitter: float, schedule: list[float]) -> None:
    policy = RetryPolicy(9, base=1.0, cap=300.0, schedule=schedule)
    middle = policy.delay(attempts, MIDDLE)
    assert middle * 0.8 - 1e-6 <= policy.delay(attempts, jitter) <= middle * 1.2 + 1e-6
