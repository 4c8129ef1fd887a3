"""A look at the queue: admit, claim and load what there is a place for, all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline import admission, queue
from pipeline.admission import Rooms
from pipeline.db import Tx
from pipeline.lifecycle import JobKind, Step
from pipeline.queue import Agenda, Claim
from pipeline.turn import Handler, Lease, Turn
from pipeline.worker.limits import Limits

NOWHERE = Rooms({})


@dataclass(slots=True)
class Found:
    """What a look found: `due` is when to look again, in the database's milliseconds like `now`; `full` says that a
    batch was filled while there were places for more."""

    turns: list[Turn] = field(default_factory=list)
    due: int | None = None
    now: int = 0
    full: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """Looks for a worker, whose identity is `owner`. What is claimed is leased by `monotonic` seconds."""

    owner: str
    handlers: Mapping[JobKind, Handler]
    limits: Limits
    monotonic: Callable[[], float]

    def take(self, tx: Tx, free: Mapping[Step, int], busy: Mapping[tuple[Step, str], int], asked: float) -> Found:
        """Take what is due, at most a batch of each step, within the `free` places.

        `busy` counts what runs here by step and lane; the leases begin at `asked`.
        """
        found = Found(now=tx.now)
        if Step.SUBMIT in free:
            limit = min(free[Step.SUBMIT], self.limits.batch)
            admission.admit(tx, limit=limit, bounds=self.limits.bounds, purse=self.limits.purse)
        agenda = queue.agenda(tx, [step for step in free if step is not Step.DELIVER])
        rooms = self._rooms(tx, free)
        claims: list[Claim] = []
        for step, places in free.items():
            if step in agenda.due or (step is Step.DELIVER and rooms.free):
                got = self._claim(tx, step, min(places, self.limits.batch), _of_step(busy, step), rooms)
                found.full |= len(got) == self.limits.batch < places
                claims += got
        self._load(tx, claims, asked, found)
        found.due = self._next(tx, free, claims, agenda, rooms)
        return found

    def _rooms(self, tx: Tx, free: Mapping[Step, int]) -> Rooms:
        if Step.DELIVER not in free:
            return NOWHERE
        return admission.rooms(tx, most=self.limits.per_lane.get(Step.DELIVER, 0) or free[Step.DELIVER])

    def _claim(self, tx: Tx, step: Step, limit: int, busy: Mapping[str, int], rooms: Rooms) -> list[Claim]:
        to_endpoints = step is Step.DELIVER
        return queue.claim(
            tx,
            worker=self.owner,
            step=step,
            limit=limit,
            lease=self.limits.lease,
            busy=busy,
            per_lane=self.limits.per_lane.get(step, 0),
            rooms=rooms.free if to_endpoints else None,
            proven=rooms.proven if to_endpoints else frozenset(),
        )

    def _load(self, tx: Tx, claims: Sequence[Claim], asked: float, found: Found) -> None:
        for kind, handler in self.handlers.items():
            mine = [claim for claim in claims if claim.kind is kind]
            subjects = handler.load(tx, mine) if mine else {}
            for claim in mine:
                if claim.id in subjects:
                    lease = Lease(asked + self.limits.lease, self.limits.lease / 10, self.monotonic)
                    found.turns.append(Turn(claim, subjects[claim.id], lease))
                else:
                    queue.drop(tx, claim)

    def _next(
        self, tx: Tx, free: Mapping[Step, int], claims: Sequence[Claim], agenda: Agenda, rooms: Rooms
    ) -> int | None:
        """When something comes due that nothing tells of. Where deliveries were taken there may be more at once."""
        times = [agenda.later, admission.next_opening(tx, self.limits.bounds, self.limits.purse), rooms.again]
        if any(claim.step is Step.DELIVER for claim in claims):
            times.append(tx.now)
        elif Step.DELIVER in free:
            times.append(queue.next_due(tx, [Step.DELIVER]))
        return min((time for time in times if time is not None), default=None)


def _of_step(busy: Mapping[tuple[Step, str], int], step: Step) -> dict[str, int]:
    return {lane: count for (of, lane), count in busy.items() if of is step}
