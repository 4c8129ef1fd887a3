"""The development receiver behind a real HTTP server: verifies, marks duplicates, shows, and escapes what it shows."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from webhooks.receiver import KEPT, MAX_BODY, Received, create_receiver
from webhooks.sender import Delivered, SendResult, build_headers, judge, send

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "QUJD" * 8
OTHER = "whsec_" + "REVG" * 8
BODY = b'{"type":"generation.completed","data":{"prompt":"a cat"}}'


@dataclass
class Running:
    client: httpx.AsyncClient
    received: list[Received]

    async def deliver(
        self, event_id: str = "evt_1", body: bytes = BODY, secret: str = SECRET, path: str = "/api/webhooks/worker"
    ) -> SendResult:
        headers = build_headers([secret], event_id=event_id, timestamp=int(time.time()), body=body, attempt=1)
        url = f"{self.client.base_url}".rstrip("/") + path
        return await send(self.client, url, headers=headers, body=body, timeout=5, now=time.time)

    async def listed(self) -> list[dict[str, object]]:
        return list((await self.client.get("/received")).json())


@asynccontextmanager
async def receiving(
    respond: Callable[[Received], int | None] = lambda _: None,
    secrets: Callable[[], list[str]] = lambda: [SECRET],
) -> AsyncIterator[Running]:
    received: list[Received] = []
    app = create_receiver(secrets, on_event=received.append, now=time.time, respond=respond)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    # Requests wait in the backlog until the server has started. With the protocol named, asyncio sets TCP_NODELAY.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    serving = asyncio.create_task(server.serve([listening]))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield Running(client, received)
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 5)


async def test_a_signed_event_is_shown_as_verified_on_any_path() -> None:
    async with receiving() as running:
        for path in ("/", "/api/webhooks/worker", "/received", "/a%20b/"):
            result = await running.deliver(event_id=f"evt_{len(running.received)}", path=path)
            assert (result.status, judge(result)) == (204, Delivered())
        assert [(one.valid, one.problem, one.duplicate) for one in running.received] == [(True, None, False)] * 4
        assert [one.path for one in running.received] == ["/", "/api/webhooks/worker", "/received", "/a b/"]
        assert running.received[0].body == BODY
        assert running.received[0].headers["webhook-attempt"] == "1"
        page = (await running.client.get("/")).text
        assert "verified - /api/webhooks/worker" in page
        assert page.index("/a b/") < page.index("/api/webhooks/worker")


async def test_a_wrong_secret_is_answered_401_with_the_problem() -> None:
    async with receiving() as running:
        result = await running.deliver(secret=OTHER)
        assert result.status == 401
        assert b"webhook-signature does not match" in result.response
        (listed,) = await running.listed()
        assert (listed["valid"], listed["body"]) == (False, BODY.decode())
        assert "NOT VERIFIED: webhook-signature" in (await running.client.get("/")).text


async def test_an_unsigned_post_is_answered_401() -> None:
    async with receiving() as running:
        answer = await running.client.post("/", content=b"")
        assert (answer.status_code, answer.text) == (401, "webhook-id is missing\n")


async def test_duplicates_are_marked_and_still_answered_204() -> None:
    async with receiving() as running:
        assert [(await running.deliver()).status for _ in range(3)] == [204, 204, 204]
        assert [one.duplicate for one in running.received] == [False, True, True]


async def test_an_event_that_was_refused_first_is_no_duplicate() -> None:
    answers = iter([500, None, None])
    async with receiving(respond=lambda _: next(answers)) as running:
        assert [(await running.deliver()).status for _ in range(3)] == [500, 204, 204]
        assert [one.duplicate for one in running.received] == [False, False, True]


async def test_a_forged_message_does_not_use_up_the_id() -> None:
    async with receiving() as running:
        await running.deliver(secret=OTHER)
        await running.deliver()
        assert [(one.valid, one.duplicate) for one in running.received] == [(False, False), (True, False)]


async def test_secrets_are_asked_for_at_each_request() -> None:
    secrets = [SECRET]
    async with receiving(secrets=lambda: secrets) as running:
        assert (await running.deliver(secret=OTHER)).status == 401
        secrets.append(OTHER)
        assert (await running.deliver(secret=OTHER)).status == 204


async def test_bodies_over_the_limit_are_refused_and_not_kept() -> None:
    async with receiving() as running:
        assert (await running.client.post("/", content=b"x" * (MAX_BODY + 1))).status_code == 413
        assert running.received == []


async def test_only_the_last_are_kept() -> None:
    async with receiving() as running:
        for number in range(KEPT + 5):
            await running.client.post(f"/{number}", content=b"")
        listed = await running.listed()
        assert len(listed) == KEPT
        assert listed[-1]["path"] == f"/{KEPT + 4}"


HOSTILE = [
    json.dumps({"prompt": "<script>alert(1)</script>"}).encode(),
    b"<script>alert(1)</script> not JSON",
    b'{"lone":"\\ud800","x":"<script>"}',
    b"\xff\xfe<script>",
    b"[" * 100_000,
    b"9" * 10_000,
    b"",
]


async def test_whatever_is_shown_is_escaped() -> None:
    async with receiving() as running:
        for body in HOSTILE:
            await running.client.post("/<script>", content=body, headers={"x-a": "<script>"})
            page = await running.client.get("/")
            assert page.status_code == 200
            assert "<script" not in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert len(await running.listed()) == len(HOSTILE)


async def test_a_sender_that_hangs_up_leaves_nothing() -> None:
    async with receiving() as running:
        reader, writer = await asyncio.open_connection(running.client.base_url.host, running.client.base_url.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert await running.listed() == []
