"""Whatever happens in whatever order: one generation is paid for once, and ends once.

A machine of hypothesis plays clients, people, workers that die or wake up too late, a provider that takes work and
answers whenever it likes, its callbacks, and the clock. The workflow, the queue, the ledger and admission are the real
ones, over a real database. What must be true is what the history checker says, after every step, and what the provider
has charged. `MACHINE_EXAMPLES` sets the number of examples for a long run (`make nightly`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import pipeline.workflow.submit as submitting
from pipeline import ledger, queue
from pipeline.drill.history import Calls, Caps
from pipeline.generations.redriving import From
from pipeline.generations.resolving import As
from pipeline.lifecycle import Busy, Step
from pipeline.queue import decisions
from pipeline.turn import Report, Turn
from pipeline.workflow import Parts, handler
from pipeline.workflow.resolve import NOT_TAKEN
from providers.base import ErrorCode, ProviderError
from tests.pipeline.engines import Place, PostgresServer, SqlitePlaces
from tests.pipeline.life import CAP, ENDS, LANE, LEASE, POLICIES, RECOVERY, REFUSALS, World

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))
WORKERS = st.sampled_from(["w1", "w2", "w3"])
ANY = st.integers(0, 7)


class LifeMachine(RuleBasedStateMachine):
    """`world` and `modes` are given by the subclass of each engine."""

    world: World
    modes: tuple[str, ...] = tuple(RECOVERY)

    @initialize(data=st.data(), on_unknown=st.sampled_from(["fail", "hold", "resubmit"]))
    def begin(self, data: st.DataObject, on_unknown: str) -> None:
        self.world.start(data.draw(st.sampled_from(self.modes)), on_unknown)
        self.world.excused = on_unknown == "resubmit"
        self.begun = True

    @rule(user=st.sampled_from(["ann", "bob"]), priority=st.sampled_from([1, 5, 10]))
    def ask(self, user: str, priority: int) -> None:
        self.world.ask(user, priority)

    @rule(worker=WORKERS, limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> None:
        self.world.claim(worker, limit)

    @rule(seconds=st.sampled_from([1.0, 4.0, LEASE + 1, 40.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time.passes(seconds)

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        self.world.renew(worker)

    @rule(worker=WORKERS)
    def kill(self, worker: str) -> None:
        self.world.kill(worker)

    @precondition(lambda self: any(each.task.done() for each in self.world.playing))
    @rule(which=ANY)
    def record(self, which: int) -> None:
        ready = [each for each in self.world.playing if each.task.done()]
        self.world.record(ready[which % len(ready)])

    @precondition(lambda self: self.world.provider.flights)
    @rule(which=ANY)
    def take(self, which: int) -> None:
        """The request arrives; its answer is yet to come."""
        flights = self.world.provider.flights
        self.world.provider.take(flights[which % len(flights)])

    @precondition(lambda self: self.world.provider.flights)
    @rule(which=ANY, how=st.sampled_from(["well", "well", "cut", *REFUSALS]), take=st.booleans())
    def reply(self, which: int, how: str, take: bool) -> None:
        flights = self.world.provider.flights
        self.world.reply(flights[which % len(flights)], how, take=take)

    @precondition(lambda self: self.world.provider.works)
    @rule(which=ANY, how=st.sampled_from(sorted(ENDS)))
    def work_ends(self, which: int, how: str) -> None:
        works = list(self.world.provider.works.values())
        self.world.end(works[which % len(works)], how)

    @precondition(lambda self: self.world.provider.works)
    @rule(which=ANY, truly=st.booleans())
    def ring(self, which: int, truly: bool) -> None:
        name, work = list(self.world.provider.works.items())[which % len(self.world.provider.works)]
        self.world.ring(work, name if truly else "nonsense")

    @precondition(lambda self: self.world.asked)
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        self.world.cancel(self.world.asked[which % len(self.world.asked)])

    @precondition(lambda self: self.world.asked)
    @rule(which=ANY, wanted=st.sampled_from([None, From.SUBMIT]), allow_repay=st.booleans())
    def redrive(self, which: int, wanted: From | None, allow_repay: bool) -> None:
        name = self.world.asked[which % len(self.world.asked)]
        self.world.redrive(name, wanted=wanted, allow_repay=allow_repay)

    @precondition(lambda self: self.world.asked)
    @rule(which=ANY, said=st.sampled_from(list(As)))
    def resolve(self, which: int, said: As) -> None:
        self.world.resolve(self.world.asked[which % len(self.world.asked)], said)

    @invariant()
    def histories_are_clean(self) -> None:
        if hasattr(self, "begun"):
            self.world.check()

    def teardown(self) -> None:
        """In the end everything that is not parked for a person ends, and no cap was exceeded meanwhile."""
        if not hasattr(self, "begun"):
            return
        try:
            self.world.finish()
            self.world.check()
            calls = Calls(Caps({LANE: CAP}, unclear_seconds=POLICIES.generation_timeout))
            for history in self.world.histories():
                calls.add(history)
            assert self.world.excused or calls.violations() == []
        finally:
            for worker in {each.claim.worker for each in self.world.playing}:
                self.world.kill(worker)


@contextmanager
def machine_on(place: Place, folder: Path, *modes: str) -> Iterator[type[LifeMachine]]:
    loop = asyncio.new_event_loop()
    world = World(place, folder, loop)
    try:
        yield type("LifeMachineHere", (LifeMachine,), {"world": world} | ({"modes": modes} if modes else {}))
    finally:
        loop.close()


def play(machine: type[LifeMachine], examples: int, *phases: Phase, steps: int = 50) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or examples,
            phases=phases or tuple(Phase),
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=not EXAMPLES,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_on_sqlite(sqlite_places: SqlitePlaces, tmp_path: Path) -> None:
    with sqlite_places.new() as place, machine_on(place, tmp_path) as machine:
        play(machine, 12)


def test_on_postgres(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with postgres_server.new() as place, machine_on(place, tmp_path) as machine:
        play(machine, 4)


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever wrote last is believed."""
    patch.setattr(decisions, "_HELD", " WHERE id = :id AND status = 'processing'")


def _requeue(patch: pytest.MonkeyPatch) -> None:
    """What nobody knows is sent again, as every queue does that retries."""

    async def again(parts: Parts, turn: Turn) -> Report:
        opened = turn.subject.open_submission
        error = ProviderError(ErrorCode.TRANSIENT, "no answer", billed=False)
        facts = [] if opened is None else [lambda tx: ledger.reject(tx, opened["token"], error)]
        return Report(Busy(NOT_TAKEN), facts=facts)

    patch.setitem(handler._STAGES, Step.RESOLVE, again)


def _two_ends(patch: pytest.MonkeyPatch) -> None:
    """A person's word ends a run that a turn still carries on."""
    patch.setattr(queue, "end", lambda *arguments: None)


def _forgetful(patch: pytest.MonkeyPatch) -> None:
    """The answer to a call counts only while its job is held."""
    patch.setattr(submitting, "accept", lambda tx, generation, token, operation: None)


SABOTEURS = {
    "no fence": (_no_fence, ("key",)),
    "blind requeue": (_requeue, ("none",)),
    "an end that is none": (_two_ends, ("none",)),
    "answers forgotten": (_forgetful, ("none",)),
}


@pytest.mark.parametrize("name", SABOTEURS)
def test_a_saboteur_is_found(
    name: str, sqlite_places: SqlitePlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controls: with one line taken away the machine must fail, else its silence would say nothing."""
    sabotage, modes = SABOTEURS[name]
    sabotage(monkeypatch)
    with sqlite_places.new() as place, machine_on(place, tmp_path, *modes) as machine:  # noqa: SIM117 - one line each
        with pytest.raises((AssertionError, ExceptionGroup)):
            play(machine, 200, Phase.generate)
