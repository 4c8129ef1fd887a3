"""An outbox whose attempts end as a test says: what is recorded is real, only the network is left out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from pipeline import admission, queue
from pipeline.clock import Clock
from pipeline.db import Database, Row, Tx
from pipeline.ids import new_id
from pipeline.keys import Box
from pipeline.lifecycle import Decision, Done, Failed, Fault, NotYet, RetryPolicy, Step
from pipeline.links import Links
from pipeline.outbox import Breaker, Outbox, Signatory
from pipeline.outbox.addressing import address
from pipeline.queue import Claim
from pipeline.turn import Lease, Report, Turn
from tests.pipeline.engines import Time
from webhooks.sender import Reason, SendResult

SCHEDULE = (0.0, 5.0, 60.0, 600.0)


def answered(status: int, retry_after: float | None = None) -> SendResult:
    return SendResult(status, Reason.ANSWERED, 3, detail=f"{status}: as it was told", retry_after=retry_after)


OK, BAD = answered(204), answered(500)


@dataclass
class Post:
    """Endpoints, events and what becomes of them, in one database."""

    db: Database
    time: Time
    outbox: Outbox
    numbers: dict[str, int] = field(default_factory=dict)

    async def endpoint(self, name: str = "ep_a", **columns: Any) -> str:
        row = {"id": name, "tenant_id": "default", "url": f"https://{name[3:]}.example/hook", "events": "[]"}
        row |= {"secret_ref": "settings"} | columns
        await self.db.write(lambda tx: tx.insert("webhook_endpoint", row | {"created_at": tx.now}))
        await self.proven(f"endpoint:{name}")
        return name

    async def proven(self, lane: str) -> None:
        """A success of long ago: to who has none, little is sent at once."""
        told = {"tenant_id": "default", "delivery_id": "dlv_0", "lane": lane, "status": 204, "url": "", "detail": ""}
        told |= {"reason": "answered", "attempt": 1, "ms": 1}
        await self.db.write(
            lambda tx: tx.insert("webhook_attempt", {"id": new_id("att", 0), **told, "at": tx.now - 120_000})
        )

    async def fail(self, times: int) -> None:
        """So many attempts in a row that are answered badly."""
        for _ in range(times):
            assert len(await self.attempt(BAD, limit=1)) == 1

    async def event(
        self, endpoint: str = "ep_a", *, generation: str = "gen_1", count: int = 1, **more: Any
    ) -> list[str]:
        """Events of a generation, each with a delivery that is due; the deliveries' ids."""

        def unit(tx: Tx) -> list[str]:
            return [self._one(tx, endpoint, generation, **more) for _ in range(count)]

        return await self.db.write(unit)

    def _one(self, tx: Tx, endpoint: str, generation: str, tenant: str = "default", **more: Any) -> str:
        self.numbers[generation] = sequence = self.numbers.get(generation, 0) + 1
        event = {
            "id": new_id("evt", tx.now, os.urandom),
            "tenant_id": tenant,
            "generation_id": generation,
            "run": 1,
            "sequence": sequence,
            "type": "generation.completed",
            "terminal": 0,
            "body": json.dumps({"n": sequence}),
            "created_at": tx.now,
        }
        tx.insert("webhook_event", event | more)
        place = {"id": endpoint, "url": "https://own.example", "secret_ref": "settings"}
        made = address(tx, tenant=tenant, event_id=event["id"], place=place, delay=0.0, random=os.urandom)
        assert made is not None
        return made

    async def claim(self, worker: str = "w1", limit: int = 64) -> list[Turn]:
        """What a worker takes in one look."""

        def unit(tx: Tx) -> list[Turn]:
            rooms = admission.rooms(tx)
            claims = queue.claim(tx, worker=worker, step=Step.DELIVER, limit=limit, lease=600.0, rooms=rooms.free)
            subjects = self.outbox.load(tx, claims)
            return [Turn(claim, subjects[claim.id], _lease(claim)) for claim in claims]

        return await self.db.write(unit)

    async def record(self, turn: Turn, result: SendResult) -> Decision | None:
        """The end of a turn whose attempt ended so; one that waits, or has nobody to go to, makes none."""
        report = await self.outbox.run(turn) if _is_quiet(turn) else Report(_outcome(result), patch={"result": result})
        return await self.db.write(lambda tx: self.outbox.record_turn(tx, turn, report))

    async def attempt(self, result: SendResult, limit: int = 64) -> list[str]:
        """Take what may be sent, and let every attempt end so; the deliveries' ids."""
        turns = await self.claim(limit=limit)
        for turn in turns:
            await self.record(turn, result)
        return [turn.claim.subject_id for turn in turns]

    async def one(self, sql: str, **values: Any) -> Row:
        row = await self.db.read(lambda tx: tx.one(sql, values))
        assert row is not None
        return row

    async def lane(self, name: str = "endpoint:ep_a") -> Row:
        return await self.one("SELECT * FROM lane WHERE name = :name", name=name)

    async def pause(self, name: str = "endpoint:ep_a") -> float:
        """Seconds for which a lane is closed from now."""
        until = await self.db.read(
            lambda tx: (tx.value("SELECT paused_until FROM lane WHERE name = :name", {"name": name}) or 0) - tx.now
        )
        return max(0.0, until / 1000)

    async def states(self) -> dict[str, str]:
        rows = await self.db.read(lambda tx: tx.all("SELECT id, state FROM webhook_delivery"))
        return {row["id"]: row["state"] for row in rows}


def make_post(db: Database, time: Time, breaker: Breaker | None = None) -> Post:
    """A post office without mail."""
    outbox = Outbox(
        links=Links("https://x.example", None, ["secret"], 100),
        signatory=Signatory(Box(["secret"], "webhook"), []),
        client=None,  # type: ignore[arg-type] # nothing is sent here
        policy=RetryPolicy(len(SCHEDULE), schedule=SCHEDULE),
        timeout=1,
        clock=Clock(),
        uniform=lambda: 0.0,
        breaker=breaker,
    )
    return Post(db, time, outbox)


def _is_quiet(turn: Turn) -> bool:
    endpoint = turn.subject.endpoint
    return bool(turn.subject.waits) or (endpoint is not None and endpoint["disabled_at"] is not None)


def _outcome(result: SendResult) -> Done | Failed | NotYet:
    fault = Fault("webhook_answered", result.detail)
    if result.status is not None and 200 <= result.status <= 299:
        return Done()
    return Failed(fault, retryable=result.status != 410, retry_after=result.retry_after)


def _lease(claim: Claim) -> Lease:
    return Lease(float("inf"), 0.0, lambda: 0.0)
