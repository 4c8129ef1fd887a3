"""A provider that speaks the mock's dialect and answers what the test says, over real HTTP; and turns taken by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline import admission, queue
from pipeline.app import make_workflow
from pipeline.db import Row, Tx
from pipeline.lifecycle import Decision, Step
from pipeline.server import HttpServer
from pipeline.turn import Lease, Report, Turn
from tests.house import House, open_house

VIDEO = Path(__file__).parent.parent / "videos" / "normal.mp4"
LANE = "provider:mock"


def say(status: int, body: object = None, **headers: str) -> Response:
    """An answer; names of headers are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    words = json.dumps({"error": {"code": "no", "message": "no"}} if body is None else body)
    return Response(words, status, named, "application/json")


RUNNING = say(200, {"status": "running"})
NOT_FOUND = say(404)


class Script:
    """Answers by kind of call (`submit`, `poll`, `lookup`, `cancel`, `file`): each list from its front, the last answer
    stays. `calls` counts what was asked."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.submit: list[Response] = [say(202, {"id": "vid_1"})]
        self.poll: list[Response] = []
        self.lookup: list[Response] = [say(200, {"videos": []})]
        self.cancel: list[Response] = [say(200, {"status": "cancelled"})]
        self.file: list[Response] = [Response(VIDEO.read_bytes(), media_type="video/mp4")]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/videos", self._answer("submit"), methods=["POST"]),
                Route("/v1/videos", self._answer("lookup")),
                Route("/v1/videos/{id}", self._answer("poll")),
                Route("/v1/videos/{id}/cancel", self._answer("cancel"), methods=["POST"]),
                Route("/file", self._answer("file"), name="file"),
            ]
        )

    def _answer(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.calls[kind] += 1
            answers: list[Response] = getattr(self, kind)
            if not answers:
                return say(200, {"status": "succeeded", "output": {"url": str(request.url_for("file"))}})
            return answers.pop(0) if len(answers) > 1 else answers[0]

        return answer


class Hand:
    """Turns of a house without a worker, one at a time."""

    def __init__(self, house: House, script: Script) -> None:
        self.house, self.script, self.db = house, script, house.plant.db
        self._workflow = make_workflow(house.plant)

    async def begin(self, step: Step) -> Turn:
        """Claim the next job of a step, whenever it is due."""

        def claim(tx: Tx) -> tuple[Turn, int]:
            tx.run("UPDATE job SET scheduled_for = 0 WHERE status = 'pending' AND step <> 'held'")
            purse = self.house.plant.purse
            admission.admit(tx, limit=10, bounds=admission.Bounds(10), purse=purse)
            (claimed,) = queue.claim(tx, worker="hand", step=step, limit=1, lease=60.0)
            subject = self._workflow.load(tx, [claimed])[claimed.id]
            return Turn(claimed, subject, Lease(monotonic() + 60.0, 6.0, monotonic)), tx.now

        turn, now = await self.db.write(claim)
        self.house.plant.clock.sync(now)
        return turn

    async def run(self, turn: Turn) -> Report:
        return await self._workflow.run(turn)

    async def record(self, turn: Turn, report: Report) -> Decision | None:
        return await self.db.write(lambda tx: self._workflow.record_turn(tx, turn, report), key=turn.claim.id)

    async def take(self, step: Step) -> Decision | None:
        """One turn from claim to record."""
        turn = await self.begin(step)
        return await self.record(turn, await self.run(turn))

    async def held(self, **times: float | None) -> str:
        """A generation whose paid call ended without a clear answer; `times` of it, in seconds from now, are set."""
        answers, self.script.submit = self.script.submit, [say(500)]
        asked = await self.house.submit("a fox")
        await self.take(Step.SUBMIT)
        await self.change("submission", **times)
        self.script.submit = answers
        return str(asked["id"])

    async def generating(self, *, for_seconds: float = 0.0) -> str:
        """A generation that the provider took so many seconds ago."""
        asked = await self.house.submit("a fox")
        await self.take(Step.SUBMIT)
        await self.change("generation", accepted_at=-for_seconds)
        return str(asked["id"])

    async def change(self, table: str, **columns: float | str | None) -> None:
        """Set columns of all rows; numbers are seconds from now."""

        def unit(tx: Tx) -> None:
            values = {
                name: tx.now + int(value * 1000) if isinstance(value, int | float) else value
                for name, value in columns.items()
            }
            if values:
                tx.update(table, values, "1 = 1", {})

        await self.db.write(unit)

    async def row(self, table: str) -> Row:
        """The newest row of a table."""
        order = "name" if table == "lane" else "id"
        row = await self.db.read(lambda tx: tx.one(f"SELECT * FROM {table} ORDER BY {order} DESC LIMIT 1"))
        assert row is not None
        return row

    async def now(self) -> int:
        return await self.db.read(lambda tx: tx.now)


@asynccontextmanager
async def by_hand(folder: Path, **settings: Any) -> AsyncIterator[Hand]:
    """A house on a scripted provider, without a worker."""
    script = Script()
    async with (
        HttpServer(script.app(), "127.0.0.1", 0) as server,
        open_house(folder, work=False, **{"mock_url": f"http://127.0.0.1:{server.port}"} | settings) as house,
    ):
        yield Hand(house, script)


@asynccontextmanager
async def scripted_house(folder: Path, script: Script, **settings: Any) -> AsyncIterator[House]:
    """A house with a worker on a scripted provider."""
    async with (
        HttpServer(script.app(), "127.0.0.1", 0) as server,
        open_house(folder, mock_url=f"http://127.0.0.1:{server.port}", **settings) as house,
    ):
        yield house


__all__ = ["LANE", "NOT_FOUND", "RUNNING", "Hand", "Script", "by_hand", "say", "scripted_house"]
