"""Operations that nobody counts on: what a provider took under a token that was closed, or took twice under one.

A callback, or an answer that came late, names them. A name is believed once the provider shows it to our own key. What
is a second operation of its generation is told to the operator, stopped where the provider can, and written down with
what is known of its charge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline import ledger, timeline
from pipeline.db import Row, Tx
from pipeline.lifecycle import TERMINAL
from pipeline.turn import Turn
from pipeline.workflow.arriving import accept, keep_billed
from pipeline.workflow.parts import MAX_NOT_FOUND, Parts, ask, subject_of
from pipeline.workflow.stopping import Stopping, stop_upstream
from providers.base import ErrorCode, Operation, Provider, ProviderError

SECOND = "a second operation of one generation: its provider took more than was meant to be asked for"
SETTLED = frozenset({"accepted", "succeeded"})
STRAY_WAIT = 5.0
"""Seconds to the next look at what could not be asked about."""

Fact = Callable[[Tx], object]


@dataclass(slots=True)
class Found:
    """What looking into strays brought: facts, and whether one of them could not be asked about just now."""

    facts: list[Fact] = field(default_factory=list)
    waiting: bool = False


async def look_into(parts: Parts, turn: Turn) -> Found:
    """Look into every stray of the turn's generation. Raises nothing for what a provider answers."""
    subject, found = subject_of(turn), Found()
    for row in subject.strays:
        provider = parts.providers.get(row["provider"])
        if provider is None:
            found.waiting = True
            continue
        known, named = row["operation_id"], row["candidate_operation_id"]
        name = known if named is None or named == known else named
        try:
            if name != known:
                await ask(provider.poll(Operation(name, {"model": row["model"]})))
        except (ProviderError, TimeoutError) as error:
            if _is_nothing(error, turn):
                found.facts.append(_dropped(row["token"], name))
            else:
                found.waiting = True
            continue
        found.facts.append(await _confirmed(subject.generation, subject.history, row, name, provider))
    return found


def _dropped(token: str, name: str) -> Fact:
    return lambda tx: ledger.drop_candidate(tx, token, name)


def _is_nothing(error: ProviderError | TimeoutError, turn: Turn) -> bool:
    """Whether the name is not the provider's: said often enough that it is not merely early."""
    refused = isinstance(error, ProviderError) and error.code in {ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST}
    return refused and turn.claim.polls + 1 >= MAX_NOT_FOUND


async def _confirmed(generation: Row, history: Sequence[Row], row: Row, name: str, provider: Provider) -> Fact:
    """The provider has it: a second operation where another was taken, else the one that was thought lost."""
    operation = Operation(name, {"model": row["model"]})
    others = [each for each in history if each["token"] != row["token"] and each["outcome"] in SETTLED]
    if row["operation_id"] is None and not others:
        return lambda tx: accept(tx, generation, row["token"], operation)
    if name == row["operation_id"] and not others and generation["status"] not in TERMINAL:
        return lambda tx: _taken_back(tx, row)
    stopping = await stop_upstream(provider, operation)
    return lambda tx: _second(tx, generation, row, operation, stopping)


def _taken_back(tx: Tx, row: Row) -> None:
    """The only operation of a generation that goes on, answered when another call was open: it is what is wanted."""
    if ledger.open_submission(tx, row["generation_id"]) is None:
        ledger.reopen(tx, row["token"])


def _second(tx: Tx, generation: Row, row: Row, operation: Operation, stopping: Stopping) -> None:
    """Write a second operation down, once, and tell of it."""
    if row["operation_id"] is None:
        ledger.accept(tx, row["token"], operation)
    error = ProviderError(ErrorCode.CANCELLED, SECOND, billed=stopping.stop.billed)
    if not ledger.close_second(tx, row["token"], operation.id, error):
        return
    timeline.note(tx, generation, "submit.second", operation=operation.id, **stopping.told)
    keep_billed(tx, generation["id"])
    tx.emit(
        "submission.second",
        level=logging.ERROR,
        generation=generation["id"],
        provider=row["provider"],
        operation=operation.id,
        stopped=stopping.stop.stopped,
        billed=stopping.told["billed"],
    )
