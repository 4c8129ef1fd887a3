"""Short words for tests of money: generations that wait with a price, who is admitted, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from pipeline import admission, ledger, queue
from pipeline.admission import Closed, provider_lane, sort_at
from pipeline.db import Database, Row, Tx
from pipeline.lifecycle import Advance, Decision, Fault, JobKind, Requeue, Retry, Step
from pipeline.money import MICROS
from pipeline.queue import Claim
from pipeline.spending import Bound, Caps, Money, Purse
from providers.base import ErrorCode, Operation, ProviderError, Recovery
from tests.pipeline.queue_help import new_job

USD = MICROS
REFUSED = ProviderError(ErrorCode.PROVIDER_ERROR, "no", billed=False)
UNCLEAR = ProviderError(ErrorCode.TRANSIENT, "who knows")
BUSY = Requeue(0.0, Fault("rate_limited", "slow down"))
AGAIN = Retry(0.0, Fault("provider_error", "once more"))
_numbers = count()


def purse(**sums: str | None) -> Purse:
    """Caps that were set on purpose: `user`, `providers`, `service`; none where nothing is said."""
    words = {name: sums.get(name) or "none" for name in ("user", "providers", "service")}
    return Purse(Caps.of_texts(**words, chosen=list(Bound), play=["mock"]))


async def arrive(db: Database, usd: float, *, provider: str = "a", fallback: bool = False, **columns: Any) -> str:
    """A generation with a price comes in and waits."""
    subject = f"gen_{next(_numbers):06}"

    def unit(tx: Tx) -> None:
        row: Row = {
            "id": subject,
            "tenant_id": "default",
            "user_id": "ann",
            "request_hash": "",
            "prompt": "a fox",
            "parameters": "{}",
            "labels": "{}",
            "provider": provider,
            "model": "m",
            "estimate_micros": int(usd * USD),
            "priority": 5,
            "status": "queued",
            "stage": "waiting",
            "run": 1,
            "sequence": 0,
            "created_at": tx.now,
            "updated_at": tx.now,
        } | columns
        tx.insert("generation", row)
        lane, place = provider_lane(provider), sort_at(tx.now, row["priority"])
        job = new_job(subject, lane=lane, step=Step.SUBMIT, waiting=True, sort_at=place, fallback=fallback)
        queue.enqueue(tx, job)

    await db.write(unit)
    return subject


async def admit(db: Database, purse: Purse, *, limit: int = 100, most: int = 1000) -> list[str]:
    """Who is admitted now, in the order of ids."""
    before = set(await admitted(db))
    await db.write(lambda tx: admission.admit(tx, limit=limit, bounds=admission.Bounds(most), purse=purse))
    return [name for name in await admitted(db) if name not in before]


async def admitted(db: Database) -> list[str]:
    rows = await db.read(lambda tx: tx.all("SELECT subject_id FROM job WHERE status <> 'waiting' ORDER BY subject_id"))
    return [row["subject_id"] for row in rows]


async def claim_submit(db: Database, worker: str = "w") -> Claim | None:
    found = await db.write(lambda tx: queue.claim(tx, worker=worker, step=Step.SUBMIT, limit=1, lease=60.0))
    return found[0] if found else None


async def intend(db: Database, purse: Purse, claim: Claim, micros: int | None = None) -> Closed | str:
    """T1: the token of the submission, or why there is none."""

    def unit(tx: Tx) -> Closed | str:
        queue.lock(tx, claim)
        row = tx.one("SELECT * FROM generation WHERE id = :id", {"id": claim.subject_id})
        assert row is not None
        amount = row["estimate_micros"] if micros is None else micros
        closed = admission.cover(tx, purse, row, amount)
        if closed is not None:
            return closed
        token = f"sub_{next(_numbers):06}"
        assert ledger.intend(tx, row, token=token, estimate_micros=amount, recovery=Recovery())
        tx.update("generation", {"reserved_micros": 0}, "id = :id", {"id": row["id"]})
        return token

    return await db.write(unit)


async def record(db: Database, claim: Claim, decision: Decision, fact: Callable[[Tx], object] | None = None) -> None:
    """The end of a turn, as the handler writes it."""

    def unit(tx: Tx) -> None:
        if fact is not None:
            fact(tx)
        locked = queue.lock(tx, claim)
        queue.acknowledge(tx, claim, decision, wake_seq=locked["wake_seq"])
        if not isinstance(decision, Retry):
            tx.update("generation", {"reserved_micros": 0}, "id = :id", {"id": claim.subject_id})

    await db.write(unit)


async def pay(db: Database, purse: Purse, *, cost: float | None = None, billed: bool = True) -> str:
    """The next that is due is submitted and ends, with what its provider reports."""
    claim = await claim_submit(db)
    assert claim is not None
    token = await intend(db, purse, claim)
    assert isinstance(token, str)

    def end(tx: Tx) -> None:
        ledger.accept(tx, token, Operation(f"op-{token}"))
        if billed:
            ledger.succeed(tx, token, None if cost is None else int(cost * USD))
        else:
            ledger.fail(tx, token, REFUSED)

    await record(db, claim, Advance(Step.STORE), end)
    return claim.subject_id


async def spent(db: Database, purse: Purse, *, tenant: str = "default", user: str | None = "ann") -> dict[str, float]:
    """Today's money in US dollars: of the user, of each provider."""

    def query(tx: Tx) -> dict[str, int]:
        money = Money(tx, purse)
        found = {"user": money.of_user(tenant, user)}
        return found | {name: money.of_provider(name) for name in money.providers()}

    return {name: micros / USD for name, micros in (await db.read(query)).items()}


async def reserved(db: Database) -> float:
    micros = await db.read(lambda tx: tx.value("SELECT sum(reserved_micros) FROM generation"))
    return int(micros or 0) / USD


async def cancel(db: Database, subject: str) -> None:
    """A client takes it back before it is submitted."""

    def unit(tx: Tx) -> None:
        if queue.cancel_unstarted(tx, JobKind.GENERATION, subject):
            tx.update("generation", {"reserved_micros": 0, "status": "cancelled"}, "id = :id", {"id": subject})

    await db.write(unit)
