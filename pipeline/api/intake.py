"""Taking requests in: checked whole, kept once, in one commit however many come together.

A picture that came as bytes is stored before the commit, and removed again when it is certain that no generation names
it.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import generations
from pipeline.api.body import LARGE
from pipeline.api.check import Checked, checked
from pipeline.api.problems import Problem
from pipeline.api.read import gone
from pipeline.api.service import Service
from pipeline.api.spend import refusal
from pipeline.db import NothingWritten, Row, Tx
from pipeline.generations import Conflict, Deleted, StoredImage
from pipeline.ids import new_id
from pipeline.names import input_key, last_input_key
from pipeline.schemas import GenerationCreate, ImageInput
from pipeline.spending import Money
from pipeline.storage import StorageError

RETRY_AFTER = "1"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be kept: who asks, for what, of whom, and with which pictures."""

    tenant: str
    key: str | None
    body: GenerationCreate
    checked: Checked

    @property
    def has_pictures(self) -> bool:
        """Whether bytes came with it that have to be stored."""
        return self.checked.image is not None or self.checked.last_image is not None

    @property
    def most_micros(self) -> int | None:
        """The list price of the dearest of its candidates, in micro-USD: who is asked in the end may cost that. None
        where there is but one."""
        chain = self.checked.chain
        return max(each.estimate_micros for each in chain.candidates) if chain.has_fallback else None


@dataclass(frozen=True, slots=True)
class Kept:
    """A generation, whether this request made it, and the dearest price of its chain (micro-USD)."""

    row: Row
    new: bool
    most_micros: int | None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request whose pictures are stored, under the id that it will have if it is new."""

    asked: Asked
    generation_id: str
    image: StoredImage | None = None
    last_image: StoredImage | None = None

    @property
    def stored(self) -> list[StoredImage]:
        """Its pictures in storage."""
        return [each for each in (self.image, self.last_image) if each is not None]


Answer = Kept | Problem


async def check(service: Service, tenant: str, key: str | None, body: GenerationCreate) -> Asked:
    """The request with its provider and picture; a large picture is decoded and hashed off the event loop.

    Raises Problem 422.
    """

    def look() -> Asked:
        found = checked(service, body)
        assert body.fingerprint  # computed here, so that no transaction waits for it
        return Asked(tenant, key, body, found)

    return await asyncio.to_thread(look) if is_large(body) else look()


def is_large(body: GenerationCreate) -> bool:
    """Whether its pictures take so long to decode that the event loop should not."""
    pictures = (body.parameters.image, body.parameters.last_image)
    return any(each is not None and each.data is not None and len(each.data) > LARGE for each in pictures)


async def keep(service: Service, requests: Sequence[Asked], trace: str | None = None) -> list[Answer]:
    """Keep every request that can be kept, all in one commit; an answer to each, in their order.

    `trace` is their place in their caller's trace.
    """
    with _under_way(service, requests) as free:
        ready = [await _prepare(service, asked) if asked in free else _in_progress() for asked in requests]
        return await _commit(service, ready, trace)


def _in_progress() -> Problem:
    return Problem(
        409,
        "request_in_progress",
        "the same request is being answered on another connection; ask again in a moment",
        headers={"Retry-After": RETRY_AFTER},
        retryable=True,
    )


@contextmanager
def _under_way(service: Service, requests: Sequence[Asked]) -> Iterator[list[Asked]]:
    """One answer at a time per key: those that nobody else is answering meanwhile."""
    free = [asked for asked in requests if not _marks(asked) & service.under_way]
    marks = {mark for asked in free for mark in _marks(asked)}
    service.under_way |= marks
    try:
        yield free
    finally:
        service.under_way -= marks


def _marks(asked: Asked) -> set[tuple[str, str]]:
    marks = {(asked.tenant, f"key:{asked.key}")} if asked.key else set()
    return marks | ({(asked.tenant, f"id:{asked.body.generation_id}")} if asked.body.generation_id else set())


async def _prepare(service: Service, asked: Asked) -> _Ready | Answer:
    """What is to be committed, or the answer if that is known already: a repeat stores no picture."""
    generation_id = new_id("gen", service.clock.now_ms(), service.random)
    if not asked.has_pictures:
        return _Ready(asked, generation_id)
    try:
        known = await service.db.read(lambda tx: generations.repeated(tx, asked.tenant, asked.body, asked.key))
        if known is not None:
            return Kept(known, new=False, most_micros=asked.most_micros)
        return await _with_pictures(service, asked, generation_id)
    except (Conflict, Deleted) as error:
        return _refused(error)
    except Problem as problem:
        return problem


async def _commit(service: Service, items: Sequence[_Ready | Answer], trace: str | None) -> list[Answer]:
    """One commit for all that are ready; what was refused stays in its place."""
    unneeded = [item for item in items if isinstance(item, _Ready)]
    try:
        answers = await service.db.write(lambda tx: _create_all(service, tx, items, trace))
        made = {answer.row["id"] for answer in answers if isinstance(answer, Kept)}
        unneeded = [item for item in unneeded if item.generation_id not in made]
    except NothingWritten:
        raise
    except BaseException:
        unneeded = []  # it may have been committed
        raise
    finally:
        for item in unneeded:
            await _remove(service, item.stored)
    return answers


async def _remove(service: Service, pictures: Sequence[StoredImage]) -> None:
    for picture in pictures:
        with suppress(StorageError):
            await service.storage.delete(picture.key)


def _create_all(service: Service, tx: Tx, items: Sequence[_Ready | Answer], trace: str | None) -> list[Answer]:
    """The day's money is added up once for all of them, and each finds what those before it have left."""
    money = Money(tx, service.purse)
    return [_create(service, tx, item, trace, money) for item in items]


def _create(service: Service, tx: Tx, item: _Ready | Answer, trace: str | None, money: Money) -> Answer:
    if not isinstance(item, _Ready):
        return item
    try:
        problem = _too_dear(service, tx, item.asked, money)
        if problem is not None:
            return problem
        row, new = generations.create(
            tx,
            generation_id=item.generation_id,
            tenant=item.asked.tenant,
            request=item.asked.body,
            chain=item.asked.checked.chain,
            idempotency_key=item.asked.key,
            image=item.image,
            last_image=item.last_image,
            traceparent=trace,
        )
    except (Conflict, Deleted) as error:
        return _refused(error)
    return Kept(row, new, item.asked.most_micros)


def _too_dear(service: Service, tx: Tx, asked: Asked, money: Money) -> Problem | None:
    """A new request for which there is no money today; a repeat asks for none. Raises Conflict or Deleted."""
    if generations.repeated(tx, asked.tenant, asked.body, asked.key) is not None:
        return None
    prices = [(each.provider, each.estimate_micros) for each in asked.checked.chain.candidates]
    return refusal(service, tx, asked.tenant, asked.body.user_id, prices, money)


def _refused(error: Conflict | Deleted) -> Problem:
    if isinstance(error, Deleted):
        return gone(error.row)
    if error.member == "generationId":
        detail = "a generation with this generationId exists and was asked for differently"
        errors = [{"pointer": "/generationId", "detail": "is taken"}]
        return Problem(409, "generation_id_conflict", detail, errors=errors, existing_id=error.existing["id"])
    detail = "this Idempotency-Key was used with another body: use a new key for a new request"
    return Problem(422, "idempotency_conflict", detail, existing_id=error.existing["id"])


async def _with_pictures(service: Service, asked: Asked, generation_id: str) -> _Ready:
    """The request with all its pictures in storage, or with none. Raises Problem 503."""
    given, found = asked.body.parameters, asked.checked
    image = await _store(service, given.image, found.image, input_key(asked.tenant, generation_id))
    try:
        last = await _store(service, given.last_image, found.last_image, last_input_key(asked.tenant, generation_id))
    except Problem:
        await _remove(service, [image] if image is not None else [])
        raise
    return _Ready(asked, generation_id, image, last)


async def _store(service: Service, given: ImageInput | None, image: bytes | None, key: str) -> StoredImage | None:
    """A picture in storage; None if there are no bytes of it. Raises Problem 503."""
    if image is None or given is None:
        return None
    mime = given.mime_type
    assert mime is not None
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(image).hexdigest())
    with tempfile.TemporaryDirectory(prefix="dailies-") as folder:
        path = Path(folder) / "input"
        await asyncio.to_thread(path.write_bytes, image)
        try:
            await service.storage.put(key, path, content_type=mime, sha256=sha256)
        except StorageError as error:
            raise Problem(
                503,
                "storage_unavailable",
                f"the input image could not be kept: {error}",
                headers={"Retry-After": "5"},
                retryable=True,
            ) from None
    return StoredImage(key, sha256, mime)
