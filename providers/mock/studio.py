"""The mock behind its dialects: takes orders, charges once, lets them end, hands out files. Faults happen here.

A dialect reads a request into an `Order`, calls `take`, and says what came of it in its own words. What it must not
say itself are the faults: `take` and `look` raise Refusal (an answer in the dialect's error envelope) or Broken (an
answer that is none).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.responses import RedirectResponse, Response

from providers.mock import plan
from providers.mock.cut import CutConnection
from providers.mock.faults import Faults
from providers.mock.files import Files
from providers.mock.order import Order, Refusal
from providers.mock.state import State
from providers.mock.work import TERMINAL, Work

UNKNOWN_STATUS = "warming_up"
_ENDINGS = {"fail:moderation": "moderation", "fail:transient": "internal", "fail:final": "final"}


class Broken(Exception):
    """A fault answers instead of the dialect: with half a document, a redirect, or by cutting the connection."""

    def __init__(self, response: Response) -> None:
        super().__init__("a fault answers")
        self.response = response


def native_id(bits: int) -> str:
    """The ids of the native dialect."""
    return f"vid_{bits & (1 << 96) - 1:024x}"


def uuid_id(bits: int) -> str:
    """An id that is a UUID, as many providers have them."""
    return str(uuid.UUID(int=bits, version=4))


class Studio:
    """Open it before use.

    Args:
        path: an SQLite file that outlives the process, or None for memory.
        speed: how many times faster than a real provider it is.
        clock: Unix seconds.
        chance: makes ids, seeds and keys.
    """

    def __init__(self, path: Path | None, speed: float, clock: Callable[[], float], chance: random.Random) -> None:
        self.speed, self.clock = speed, clock
        self._path, self._chance = path, chance
        self.ring_early: Callable[[Work], Awaitable[object]] | None = None
        self.changed: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Open the state's file. Raises sqlite3.DatabaseError."""
        self.state = State(self._path)
        self.faults = Faults(self.state)
        self.secret = self.state.secret(self._chance.randbytes(32))
        self.files = Files(self.state, self.faults, self.secret, self.clock)

    def close(self) -> None:
        """Close it."""
        self.state.close()

    def secret_for(self, purpose: str) -> bytes:
        """32 bytes that stay the same as long as the state's file does, for signing callbacks and the like."""
        return hashlib.sha256(self.secret + purpose.encode()).digest()

    async def take(self, order: Order, *, key: str | None = None, make_id: Callable[[int], str] = native_id) -> Work:
        """Accept an order and charge for it, once per `key`. Raises Refusal or Broken, as the prompt's faults say.

        `make_id` makes an id of 128 random bits.
        """
        scope = "prompt:" + hashlib.sha256(order.prompt.encode()).hexdigest()
        self._refuse_before(order.prompt, scope)
        work = self._known(order, key) or self._accept(order, key, scope, make_id)
        if self._fires("callback:early", order.prompt, scope) and self.ring_early and work.callback_url:
            await self.ring_early(work)
        await asyncio.sleep(self.faults.seconds("slow-submit", order.prompt) or 0)
        self._spoil_after(order.prompt, scope)
        return work

    def find(self, work_id: str, dialect: str) -> Work:
        """The work of that id. Raises Refusal 404 when there is none in this dialect."""
        work = self.state.by_id(work_id)
        if work is None or work.dialect != dialect:
            raise Refusal(404, "not_found", "there is no such video")
        return work

    def look(self, work: Work) -> str:
        """Where it stands, for a poll: `queued`, `running`, `succeeded`, `failed`, `cancelled`, or UNKNOWN_STATUS.

        Raises Refusal or Broken, as faults say.
        """
        if self._fires("503-poll", work.prompt, work.id):
            raise Refusal(503, "unavailable", "the service is not available")
        if self._fires("garbage-json", work.prompt, work.id):
            raise Broken(Response('{"id": "' + work.id, media_type="application/json"))
        status = work.status(self.clock())
        if status == "running" and self._fires("unknown-status", work.prompt, work.id):
            return UNKNOWN_STATUS
        return status

    def cancel(self, work: Work, *, refund: bool) -> Work:
        """Stop what has not ended; the work as it is then."""
        now = self.clock()
        if work.status(now) not in TERMINAL:
            self.state.cancel(work.id, now, refund=refund)
            self.changed()
        return self.state.by_id(work.id) or work

    def inline(self, work: Work) -> bool:
        """Whether the fault `inline` asks for the bytes in the answer, where a dialect can do that."""
        return self._fires("inline", work.prompt, work.id)

    def _fires(self, name: str, prompt: str, scope: str) -> bool:
        return self.faults.fires(name, prompt, scope)

    def _refuse_before(self, prompt: str, scope: str) -> None:
        """Refuse, as a fault asks for, before anything is accepted."""
        if self._fires("429", prompt, scope):
            wait = {"retry-after": str(round(5 / self.speed))}
            raise Refusal(429, "rate_limited", "too many requests", wait)
        for fault, refusal in _REFUSALS.items():
            if self._fires(fault, prompt, scope):
                raise Refusal(*refusal)
        if self._fires("cut-submit", prompt, scope):
            raise Broken(CutConnection())
        if self._fires("redirect-submit", prompt, scope):
            raise Broken(RedirectResponse("/elsewhere", 307))

    def _spoil_after(self, prompt: str, scope: str) -> None:
        """Answer badly, as a fault asks for, although the work was accepted and charged."""
        if self._fires("500-submit", prompt, scope):
            raise Refusal(500, "internal", "something went wrong")
        if self._fires("drop-submit", prompt, scope):
            raise Broken(CutConnection())
        if self._fires("garbage-submit", prompt, scope):
            raise Broken(Response('{"id": "', media_type="application/json"))

    def _known(self, order: Order, key: str | None) -> Work | None:
        work = self.state.by_key(key) if key else None
        if work is not None and work.body_hash != order.body_hash:
            raise Refusal(422, "idempotency_mismatch", "this Idempotency-Key was used with another body")
        return work

    def _accept(self, order: Order, key: str | None, scope: str, make_id: Callable[[int], str]) -> Work:
        seed = self._chance.getrandbits(32) if order.seed is None else order.seed
        ending = next((end for fault, end in _ENDINGS.items() if self._fires(fault, order.prompt, scope)), None)
        seconds = self.faults.seconds("slow", order.prompt) or plan.seconds_for(seed, self.speed)
        stuck = self._fires("stuck", order.prompt, scope)
        work = plan.accept(
            order,
            work_id=make_id(self._chance.getrandbits(128)),
            key=key,
            seed=seed,
            now=self.clock(),
            seconds=None if stuck else seconds,
            ending=ending or "succeeded",
        )
        self.state.add(work)
        self.changed()
        return work


_REFUSALS = {
    "401": (401, "unauthorized", "the key is not valid"),
    "402": (402, "payment_required", "the account has no credit left"),
    "503-submit": (503, "unavailable", "the service is not available"),
    "fail:invalid": (400, "invalid_request", "the request is not valid"),
    "refuse:moderation": (400, "moderation", "the prompt was refused by the content policy"),
}
