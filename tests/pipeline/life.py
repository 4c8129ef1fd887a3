"""A small world for the machine of `test_life_machine`: the real workflow over a real database, a provider that does
what it is told, several workers of which any may die, stall or wake up late, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline import admission, generations, queue
from pipeline.api.callbacks import _keep
from pipeline.clock import Clock
from pipeline.db import Database, Row, Tx
from pipeline.drill.history import read
from pipeline.drill.rules import History, violations
from pipeline.durations import Durations
from pipeline.generations.redriving import From
from pipeline.generations.resolving import As, NotHeld, OperationTaken, StillUnderWay, Verdict, resolve
from pipeline.keys import Box
from pipeline.lifecycle import Done, Step, Stopped
from pipeline.links import Links
from pipeline.outbox import Outbox, Signatory
from pipeline.queue import Claim, LeaseLost
from pipeline.schemas import GenerationCreate
from pipeline.spool import Spool
from pipeline.storage import LocalStorage
from pipeline.turn import Lease, Report, Turn
from pipeline.workflow import Parts, Policies, Workflow
from providers.base import (
    Accepted,
    Callback,
    Capabilities,
    Download,
    ErrorCode,
    Operation,
    Output,
    Phase,
    Provider,
    ProviderError,
    ProviderStatus,
    Recovery,
    Rejected,
    Stop,
    SubmitContext,
    SubmitResult,
    Unknown,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from tests.pipeline.chains import MOCK_CHAIN
from tests.pipeline.engines import Place, Time

T = TypeVar("T")

LEASE = 10.0
CAP = 2
LANE = "provider:mock"
STEPS = (Step.SUBMIT, Step.RESOLVE, Step.POLL, Step.STORE, Step.LATE)
SUBMIT_TIMEOUT, LATE_ANSWER, QUIET = 20.0, 15.0, 5.0
RECOVERY = {
    "key": Recovery(idempotency_seconds=600.0),
    "lookup": Recovery(lookup_quiet_seconds=QUIET),
    "callback": Recovery(callback_seconds=60.0),
    "none": Recovery(),
}
NO_ANSWER = ProviderError(ErrorCode.TRANSIENT, "the connection was cut")
REFUSALS = {
    "invalid": ProviderError(ErrorCode.INVALID_REQUEST, "no such thing", http_status=400, billed=False),
    "busy": ProviderError(ErrorCode.RATE_LIMITED, "too many", http_status=429, retry_after=2.0, billed=False),
    "unreachable": ProviderError(ErrorCode.TRANSIENT, "cannot connect", billed=False),
}
ENDS = {
    "made": ProviderStatus(Phase.SUCCEEDED, outputs=[Output("https://files.example/a.mp4")]),
    "free failure": ProviderStatus(
        Phase.FAILED, error=ProviderError(ErrorCode.PROVIDER_ERROR, "broke", billed=False, resubmit=True)
    ),
    "paid failure": ProviderStatus(Phase.FAILED, error=ProviderError(ErrorCode.MODERATION, "no", billed=True)),
}
POLICIES = Policies(
    submit_attempts=3,
    store_attempts=3,
    retry_base=2.0,
    retry_max=10.0,
    poll_interval=2.0,
    poll_interval_max=10.0,
    generation_timeout=300.0,
    queue_timeout=36_000.0,
    submit_timeout=SUBMIT_TIMEOUT,
    late_answer=LATE_ANSWER,
    on_unknown="fail",
    max_submissions=3,
    lane_pause=5.0,
)
VIDEO: dict[str, Any] = {"video_key": "a.mp4", "video_sha256": "00", "video_bytes": 1, "video_duration": 1.0}


@dataclass
class Work:
    """An operation of the provider: whose, and how it stands. `charged` is what it costs in the end."""

    token: str
    generation: str
    status: ProviderStatus = field(default_factory=lambda: ProviderStatus(Phase.RUNNING))

    @property
    def charged(self) -> bool:
        return self.status.error is None or self.status.error.billed is not False


@dataclass
class Flight:
    """A paid call that was let go and is not answered yet; `taken` is the operation, once the provider took it."""

    token: str
    generation: str
    at: float
    answer: asyncio.Future[SubmitResult]
    task: asyncio.Task[Any] | None
    taken: str | None = None
    over: bool = False


class Told:
    """A provider that takes, answers and ends work when it is told to."""

    name = "mock"

    def __init__(self, mode: str, monotonic: Callable[[], float]) -> None:
        self.mode = mode
        self.capabilities = Capabilities(load_catalogue("mock"), cancel=True, recovery=RECOVERY[mode])
        self.flights: list[Flight] = []
        self.works: dict[str, Work] = {}
        self.generous = False
        self._monotonic = monotonic

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        future: asyncio.Future[SubmitResult] = asyncio.get_running_loop().create_future()
        self.flights.append(Flight(context.token, request.prompt, self._monotonic(), future, asyncio.current_task()))
        return await future

    def take(self, flight: Flight) -> None:
        """The bytes arrive. A key is charged once; where work can only be looked up, a process that is frozen beyond
        every bound is the known hole, which is not played here."""
        frozen = self._monotonic() - flight.at > SUBMIT_TIMEOUT + LATE_ANSWER - 1
        if flight.taken is not None or flight.over or (self.mode == "lookup" and frozen):
            return
        known = next((name for name, work in self.works.items() if work.token == flight.token), None)
        if known is None or self.mode != "key":
            known = f"op{len(self.works)}"
            self.works[known] = Work(flight.token, flight.generation)
        flight.taken = known

    def reply(self, flight: Flight, how: str) -> None:
        """The answer arrives, or the connection breaks."""
        flight.over = True
        self.flights.remove(flight)
        if flight.answer.done():
            return
        if how == "well" and flight.taken is not None:
            flight.answer.set_result(Accepted(Operation(flight.taken)))
        elif how in REFUSALS and flight.taken is None:
            flight.answer.set_result(Rejected(REFUSALS[how]))
        else:
            flight.answer.set_result(Unknown(NO_ANSWER))

    async def poll(self, operation: Operation) -> ProviderStatus:
        work = self.works.get(operation.id)
        if work is None:
            raise ProviderError(ErrorCode.NOT_FOUND, "no such operation", http_status=404)
        if self.generous and work.status.phase is Phase.RUNNING:
            work.status = ENDS["made"]
        return work.status

    async def cancel(self, operation: Operation) -> Stop:
        work = self.works[operation.id]
        if work.status.phase is Phase.RUNNING:
            error = ProviderError(ErrorCode.CANCELLED, "stopped", billed=False)
            work.status = ProviderStatus(Phase.CANCELLED, error=error)
        return Stop(stopped=not work.charged, billed=work.charged)

    async def lookup(self, token: str) -> Operation | None:
        return next((Operation(name) for name, work in self.works.items() if work.token == token), None)

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        raise NotImplementedError("files are not what this is about")

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        raise NotImplementedError("rings are handed in as they were read")


@dataclass
class Playing:
    """A turn that some worker runs, and the task that runs it."""

    turn: Turn
    task: asyncio.Task[Report]

    @property
    def claim(self) -> Claim:
        return self.turn.claim


class World:
    """Everything, with one method for each thing that can happen."""

    def __init__(self, place: Place, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.db: Database = place.open()
        self.time: Time = place.time
        self.loop = loop
        self._storage = LocalStorage(folder / "files")
        self._spool = Spool(folder / "spool", 1_000_000)
        self._begun = place.time.ahead
        self.rings = 0

    def start(self, mode: str, on_unknown: str) -> None:
        """Empty, with a provider of this kind."""
        tables = ("job", "submission", "lane", "generation", "timeline", "webhook_event", "callback")
        self.write(lambda tx: [tx.run(f"DELETE FROM {table}") for table in tables])
        self.playing: list[Playing] = []
        self.asked: list[str] = []
        self.excused = False
        self.provider = Told(mode, self.monotonic)
        clock = Clock(self.monotonic)
        policies = Policies(
            **{name: getattr(POLICIES, name) for name in POLICIES.__slots__} | {"on_unknown": on_unknown}
        )
        providers: dict[str, Provider] = {"mock": self.provider}
        self.bounds = admission.Bounds(CAP, unclear_seconds=policies.generation_timeout)
        self.outbox = Outbox(
            links=Links("https://x.example", None, ["secret"], 100),
            signatory=Signatory(Box(["secret"], "webhook"), []),
            client=None,  # type: ignore[arg-type] # nothing is sent here
            policy=None,  # type: ignore[arg-type]
            timeout=1,
            clock=clock,
            uniform=lambda: 0.5,
        )
        self.clock = clock
        self.workflow = Workflow(
            Parts(
                db=self.db,
                providers=providers,
                durations=Durations(self.db, providers),
                storage=self._storage,
                spool=self._spool,
                outbox=self.outbox,
                policies=policies,
                bounds=self.bounds,
                clock=clock,
                uniform=lambda: 0.5,
                random=self._random,
                callback_url=lambda provider, token: f"https://x.example/{token}" if mode == "callback" else None,
                max_video_bytes=1,
                max_image_bytes=1,
            )
        )

    def monotonic(self) -> float:
        return 1000.0 + self.time.ahead - self._begun

    def _random(self, count: int) -> bytes:
        self.rings += 1
        return self.rings.to_bytes(count, "big")

    def write(self, unit: Callable[[Tx], T]) -> T:
        return self.loop.run_until_complete(self.db.write(unit))

    # --- clients and people ------------------------------------------------------------------------------------------

    def ask(self, user: str, priority: int) -> None:
        name = f"gen_{len(self.asked):032}"
        request = GenerationCreate.model_validate({"prompt": name, "userId": user, "priority": priority})
        self.write(
            lambda tx: generations.create(
                tx, generation_id=name, tenant="default", request=request, chain=MOCK_CHAIN, idempotency_key=None
            )
        )
        self.asked.append(name)

    def cancel(self, name: str) -> None:
        self.write(lambda tx: generations.cancel(tx, "default", name, self.outbox))

    def redrive(self, name: str, *, wanted: From | None, allow_repay: bool) -> None:
        columns = ("provider", "model", "extra", "duration", "estimate_micros", "candidate")

        def unit(tx: Tx) -> object:
            return generations.redrive(
                tx,
                "default",
                name,
                self.outbox,
                first=lambda row: {column: row[column] for column in columns},
                wanted=wanted,
                allow_repay=allow_repay,
            )

        try:
            self.write(unit)
            self.excused = True
        except (generations.NotRedrivable, generations.RepayNeeded):
            pass

    def resolve(self, name: str, said: As) -> None:
        operation = next((op for op, work in self.provider.works.items() if work.generation == name), None)
        if said is As.ACCEPTED and operation is None:
            return
        verdict = Verdict(said, "ann", SUBMIT_TIMEOUT + LATE_ANSWER, operation if said is As.ACCEPTED else None)
        try:
            self.write(lambda tx: resolve(tx, "default", name, verdict, self.outbox))
            self.excused = True
        except (NotHeld, StillUnderWay, OperationTaken):
            pass

    # --- workers -----------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> None:
        """Admit, claim and begin, as a worker's round does."""
        claimed = self.monotonic()

        def unit(tx: Tx) -> tuple[int, list[Turn]]:
            admission.admit(tx, limit=limit, bounds=self.bounds)
            turns = []
            for step in STEPS:
                claims = queue.claim(tx, worker=worker, step=step, limit=limit, lease=LEASE)
                subjects = self.workflow.load(tx, claims)
                lease = Lease(claimed + LEASE, LEASE / 10, self.monotonic)
                turns += [Turn(claim, subjects[claim.id], lease) for claim in claims]
            return tx.now, turns

        now, turns = self.write(unit)
        self.clock.sync(now)
        self.playing += [Playing(turn, self.loop.create_task(self._run(turn))) for turn in turns]
        self.pump()

    async def _run(self, turn: Turn) -> Report:
        if turn.claim.step is not Step.STORE:
            return await self.workflow.run(turn)
        cancelled = turn.subject.generation["cancel_requested_at"] is not None
        return Report(Stopped()) if cancelled else Report(Done(), patch=VIDEO, notes=[("stored", {})])

    def pump(self) -> None:
        """Let everything go on until it waits for the provider, or is ready to be recorded."""
        self.loop.run_until_complete(self._settle())

    async def _settle(self) -> None:
        """Turns write in threads, so this waits for them."""
        deadline = self.loop.time() + 30
        while sum(not each.task.done() for each in self.playing) > sum(
            not f.answer.done() for f in self.provider.flights
        ):
            assert self.loop.time() < deadline, "a turn hangs"
            await asyncio.sleep(0.0002)

    def record(self, playing: Playing) -> None:
        """A turn's end, however late: it may be a zombie's."""
        self.playing.remove(playing)
        try:
            report = playing.task.result()
        except LeaseLost:
            return
        self.write(lambda tx: self.workflow.record_turn(tx, playing.turn, report))

    def renew(self, worker: str) -> None:
        mine = {each.claim.id: each.turn for each in self.playing if each.claim.worker == worker}
        asked = self.monotonic()
        held = self.write(lambda tx: queue.extend(tx, worker, mine, LEASE))
        for number in held:
            mine[number].lease.until = asked + LEASE

    def kill(self, worker: str) -> None:
        """Nothing of it goes on; what it had sent has been sent."""
        gone = [each for each in self.playing if each.claim.worker == worker]
        ended = {each.task for each in gone}
        self.provider.flights = [flight for flight in self.provider.flights if flight.task not in ended]
        for each in gone:
            each.task.cancel()
            self.playing.remove(each)
        if gone:
            self.loop.run_until_complete(asyncio.wait({each.task for each in gone}))

    # --- the provider ------------------------------------------------------------------------------------------------

    def reply(self, flight: Flight, how: str, *, take: bool) -> None:
        if take:
            self.provider.take(flight)
        self.provider.reply(flight, how)
        self.pump()

    def end(self, work: Work, how: str) -> None:
        if work.status.phase is Phase.RUNNING:
            work.status = ENDS[how]

    def ring(self, work: Work, operation: str) -> None:
        """A callback that names an operation, by the token that came with the call."""
        self.rings += 1
        ring = Callback(f"ring{self.rings}", operation)
        assert self.write(lambda tx: _keep(tx, ring.event_id, "mock", work.token, ring))

    # --- what must be true -------------------------------------------------------------------------------------------

    def histories(self) -> list[History]:
        return self.db.read_now(lambda tx: read(tx, "", 1000))

    def check(self) -> None:
        """No violation in any history, and no generation is charged more often than somebody allowed."""
        for history in self.histories():
            assert violations(history) == []
            name = history.generation["id"]
            charged = [op for op, work in self.provider.works.items() if work.generation == name and work.charged]
            assert len(charged) <= 1 + _allowed(history.lines), f"{name} is charged for {charged}"

    def finish(self) -> None:
        """Whatever is not parked for a person comes to its end."""
        self.provider.generous = True
        for _ in range(20 + 8 * len(self.asked)):
            while self.provider.flights:
                self.reply(self.provider.flights[0], "well", take=True)
            for each in list(self.playing):
                self.record(each)
            if not self.unfinished():
                return
            self.time.passes(200.0)
            self.claim("last", 10)
        raise AssertionError(f"never done: {self.unfinished()}")

    def unfinished(self) -> list[Row]:
        parked = "SELECT * FROM job WHERE finished_at IS NULL AND step <> 'held'"
        return self.db.read_now(lambda tx: tx.all(parked))


def _allowed(lines: Any) -> int:
    words = {"submit.resubmit", "submit.decided"}
    return sum(line["event"] in words or '"pays_again"' in (line["detail"] or "") for line in lines)
