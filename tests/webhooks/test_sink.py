"""The bad receiver itself: what it can be asked for, how it chooses, and what it tells of requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from webhooks.sender import build_headers
from webhooks.sink import BEHAVIOURS, BadBehaviour, Seen, Sink, parse_spec
from webhooks.sink.answer import Answer, Ending, Greeting, Pause, Say, acts

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "QUJD" * 8
BODY = b'{"type":"generation.completed"}'


def drawn(spec: str, *chances: float) -> tuple[Answer, tuple[str, ...]]:
    waiting = list(chances)
    return parse_spec([spec]).draw(lambda: waiting.pop(0), 0.0)


def test_behaviours_combine_and_later_ones_win() -> None:
    answer, labels = drawn("slow-body,status=503,retry-after=7,status=429")
    assert (answer.status, answer.body_every, answer.headers) == ("429", 0.2, ((b"Retry-After", b"7"),))
    assert labels == ("slow-body=0.2", "status=503", "retry-after=7", "status=429")


def test_each_is_drawn_by_itself() -> None:
    spec = "slow-body:0.5,status=503:0.3"
    assert drawn(spec, 0.4, 0.2)[1] == ("slow-body=0.2", "status=503")
    assert drawn(spec, 0.6, 0.2)[1] == ("status=503",)
    assert drawn(spec, 0.5, 0.3)[1] == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("slow-bdy", "did you mean slow-body?"),
        ("xyz", "no behaviour 'xyz'"),
        ("status", "status=CODE"),
        ("status=abc", "CODE is expected"),
        ("status=1000000", "CODE is expected"),
        ("redirect=200", "cannot be"),
        ("latency=-1", "SECONDS is expected"),
        ("latency=nan", "SECONDS is expected"),
        ("silence=3", "takes no value"),
        ("silence:2", "between 0 and 1"),
        ("status=503:-1", "between 0 and 1"),
        ("location=a\nb", "cannot be"),
        ("no-accept,ok", "whole sink"),
        ("no-accept:0.5", "whole sink"),
    ],
)
def test_what_cannot_be_is_said(spec: str, words: str) -> None:
    with pytest.raises(BadBehaviour, match=words.replace("?", r"\?")):
        parse_spec([spec])


def test_a_port_is_no_probability_and_an_address_may_have_one() -> None:
    (plain,) = parse_spec(["location=https://app.example:8443/x"]).items
    assert (plain.argument, plain.probability) == ("https://app.example:8443/x", 1.0)
    (ported,) = parse_spec(["location=http://app.example:3000"]).items
    assert (ported.argument, ported.probability) == ("http://app.example:3000", 1.0)
    (rare,) = parse_spec(["location=https://app.example/x:0.25"]).items
    assert (rare.argument, rare.probability) == ("https://app.example/x", 0.25)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_is_explained_and_ends_or_goes_on(name: str) -> None:
    behaviour = BEHAVIOURS[name]
    wanted = behaviour.argument
    argument = "" if wanted is None else wanted.default or {"CODE": "503", "SECONDS": "1", "VALUE": "5"}[wanted.name]
    answer = behaviour.change(Answer(), argument, 1_763_800_000.0)
    assert 3 < len(behaviour.meaning) < 90
    first = [act for _, act in zip(range(50), acts(answer), strict=False)]
    assert answer.greeting is not Greeting.WELL or isinstance(first[-1], Ending | Say | Pause)


Work = Callable[[httpx.AsyncClient, str], Awaitable[None]]


async def ask(spec: str, work: Work, secrets: tuple[str, ...] = (SECRET,)) -> list[Seen]:
    seen: list[Seen] = []
    async with (
        Sink(parse_spec([spec]), secrets=secrets, on_request=seen.append, now=time.time, uniform=lambda: 0.0) as sink,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        await work(client, f"http://127.0.0.1:{sink.port}/hook?a=1")
    return seen


async def test_a_right_signature_is_told_and_a_wrong_one_why() -> None:
    async def work(client: httpx.AsyncClient, url: str) -> None:
        headers = build_headers([SECRET], event_id="evt_1", timestamp=int(time.time()), body=BODY, attempt=3)
        assert (await client.post(url, content=BODY, headers=headers)).status_code == 200
        assert (await client.post(url, content=BODY + b" ", headers=headers)).status_code == 200
        assert (await client.get(url)).status_code == 200

    right, wrong, none = await ask("ok", work)
    assert (right.problem, right.path, right.method, right.body) == (None, "/hook?a=1", "POST", BODY)
    assert right.headers["webhook-attempt"] == "3"
    assert "does not match" in str(wrong.problem)
    assert "webhook-id is missing" in str(none.problem)
    assert {each.connection for each in (right, wrong, none)} == {1}


async def test_without_a_secret_nothing_is_checked() -> None:
    async def work(client: httpx.AsyncClient, url: str) -> None:
        await client.post(url, content=BODY)

    (seen,) = await ask("ok", work, secrets=())
    assert seen.problem == "not checked: no secret is known"


async def test_a_slash_keeps_the_query() -> None:
    async def work(client: httpx.AsyncClient, url: str) -> None:
        response = await client.post(url, content=BODY)
        assert (response.status_code, response.headers["location"]) == (308, "/hook/?a=1")

    await ask("trailing-slash", work)


async def test_what_is_too_large_or_of_unknown_length_is_refused() -> None:
    async def pieces():
        yield b"x"

    async def work(client: httpx.AsyncClient, url: str) -> None:
        assert (await client.post(url, content=b"x" * (1 << 20))).status_code == 413
        assert (await client.post(url, content=pieces())).status_code == 413

    assert await ask("ok", work) == []


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def work(_client: httpx.AsyncClient, url: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()

    assert len(await ask("idle-close=0.05", work)) == 1


async def test_nonsense_is_hung_up_on() -> None:
    async def work(_client: httpx.AsyncClient, url: str) -> None:
        for noise in (b"hello\r\n\r\n", b"x" * 200_000, b"\x16\x03\x01nonsense" + b"\x00" * 200):
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
            writer.write(noise)
            async with asyncio.timeout(5):
                with suppress(ConnectionError):
                    assert b"200" not in await reader.read()
            writer.close()

    assert await ask("ok", work) == []
