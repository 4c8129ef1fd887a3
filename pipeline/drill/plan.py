"""What a drill does, decided beforehand from one seed: what is asked for, and when which process is hit. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

RECOVERIES = ("key", "lookup", "callback", "none")

FAULTS = (
    "[[429:1]]",
    "[[503-submit:1]]",
    "[[cut-submit:1]]",
    "[[drop-submit:1]]",
    "[[500-submit:1]]",
    "[[garbage-submit:1]]",
    "[[slow-submit:0.5]]",
    "[[503-poll:2]]",
    "[[garbage-json:1]]",
    "[[unknown-status:1]]",
    "[[truncated:1]]",
    "[[expired-url:1]]",
    "[[callback:twice]]",
    "[[fail:final]]",
)
"""What a provider does on its bad days: see `dailies mock --faults`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A drill. Times are in seconds.

    Attributes:
        generations: how many are asked for.
        seed: what chance decides follows from it.
        recovery: what the mock offers for calls of unknown outcome: `key`, `lookup`, `callback` or `none`.
        faults: of these the mock itself does one now and then, such as FAULTS.
        faulty: so many of the generations meet one.
        workers: worker processes, beside one of the API.
        in_flight: MAX_IN_FLIGHT, low enough to bind.
        blows: how often a process is hit.
        stop_share: so many of the blows stop a process for a while (SIGSTOP, SIGCONT), the others kill it (SIGKILL).
        stops: the shortest and the longest stop, as multiples of the lease.
        pause: the shortest and the longest time between two blows.
        lease: LEASE.
        submit_timeout: SUBMIT_TIMEOUT.
        speed: how much faster than a real provider the mock is: at 30 a video takes a second.
        patience: the drill has failed if the work has not ended after so long.
    """

    generations: int = 100
    seed: int = 1
    recovery: str = "key"
    faults: tuple[str, ...] = ()
    faulty: float = 0.3
    workers: int = 2
    in_flight: int = 12
    blows: int = 20
    stop_share: float = 0.3
    stops: tuple[float, float] = (1.1, 2.2)
    pause: tuple[float, float] = (0.4, 1.6)
    lease: float = 2.0
    submit_timeout: float = 4.0
    speed: float = 30.0
    patience: float = 300.0


@dataclass(frozen=True, slots=True)
class Order:
    """One generation to ask for. No two of a drill have the same prompt, which is how the mock's account names them."""

    number: int
    prompt: str
    user: str
    priority: int
    key: str


@dataclass(frozen=True, slots=True)
class Blow:
    """`wait` seconds after the one before, the process of that number (0 is the API) is stopped for `stop` seconds, or
    killed where that is None."""

    wait: float
    victim: int
    stop: float | None


def orders(plan: Plan) -> list[Order]:
    """What is asked for: a few users, all priorities."""
    dice = random.Random(plan.seed)  # noqa: S311 - no secret
    return [_order(plan, number, dice) for number in range(plan.generations)]


def _order(plan: Plan, number: int, dice: random.Random) -> Order:
    fault = f" {dice.choice(plan.faults)}" if plan.faults and dice.random() < plan.faulty else ""
    return Order(
        number,
        f"drill {plan.seed}/{number}{fault}",
        user=f"user_{min(int(dice.expovariate(0.5)), 6)}",
        priority=dice.randint(1, 10),
        key=f"drill-{plan.seed}-{number}",
    )


def blows(plan: Plan) -> Iterator[Blow]:
    """Every blow in turn; the API is hit half as often as a worker."""
    dice = random.Random(plan.seed + 1)  # noqa: S311 - no secret
    weights = [1, *[2] * plan.workers]
    for _ in range(plan.blows):
        wait, victim = dice.uniform(*plan.pause), dice.choices(range(len(weights)), weights)[0]
        stops = dice.random() < plan.stop_share
        yield Blow(wait, victim, plan.lease * dice.uniform(*plan.stops) if stops else None)
