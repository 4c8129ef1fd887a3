"""The failure list: every receiver is tried, through the client that ships, over real sockets and TLS."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from pipeline.outbound.guard import Guard
from tests.webhooks.failure_list import DEADLINE, ROWS, Row
from tests.webhooks.receivers import SPARE, attempt, guarded, main, sink, tried
from webhooks.events import MAX_BODY
from webhooks.sender import Delivered, Reason, Retry, judge
from webhooks.sink import Seen
from webhooks.wire import Connection

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with guarded() as client:
        yield client


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.behaviour}-{row.scheme}")
async def test_each_receiver_is_met_as_the_list_says(client: httpx.AsyncClient, row: Row) -> None:
    trial = await tried(client, row)
    if len(trial.problems) == 1 and trial.problems[0].startswith("took"):
        trial = await tried(client, row)  # a machine that stood still says nothing about the row
    assert trial.problems == ()


async def test_the_table_of_all_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [row for row in ROWS if row.number in {15, 29}]
    monkeypatch.setattr("tests.webhooks.receivers.ROWS", chosen)
    assert await main() == 0
    monkeypatch.setattr("tests.webhooks.receivers.ROWS", [Row(1, "ok", 500, Retry(), "no")])
    assert await main() == 1
    printed = capsys.readouterr().out
    assert f"{len(chosen)} receivers, each as it has to be" in printed
    assert "1 receivers, 1 missed" in printed


# --- connections -----------------------------------------------------------------------------------------------------


async def test_25_a_connection_that_died_idle_is_replaced_once(client: httpx.AsyncClient) -> None:
    seen: list[Seen] = []
    async with sink("dead-keep-alive", seen) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hook"
        first, _ = await attempt(client, url)
        second, _ = await attempt(client, url)
    assert (judge(first), judge(second)) == (Delivered(), Delivered())
    assert (first.wire.connection, second.wire.connection) == (Connection.NEW, Connection.REPLACED)
    assert "replaced" in second.detail
    assert [each.connection for each in seen] == [1, 2]


async def test_25_a_new_connection_that_dies_is_not_tried_at_once(client: httpx.AsyncClient) -> None:
    async with sink("close") as receiver:
        result, _ = await attempt(client, f"http://127.0.0.1:{receiver.port}/hook")
        assert (result.reason, receiver.connections) == (Reason.RESET, 1)


async def test_14_what_nobody_asked_for_is_no_answer_to_the_next(client: httpx.AsyncClient) -> None:
    async with sink("two-answers") as receiver:
        for _ in range(3):
            result, _ = await attempt(client, f"http://127.0.0.1:{receiver.port}/hook")
            assert judge(result) == Delivered(), result.detail


async def test_28_an_early_413_to_a_large_body_is_a_failure_whichever_comes_first(client: httpx.AsyncClient) -> None:
    async with sink("early-413") as receiver:
        result, took = await attempt(client, f"http://127.0.0.1:{receiver.port}/hook", body=b"x" * MAX_BODY)
    assert judge(result) == Retry()
    assert (result.status, result.reason) in {(413, Reason.ANSWERED), (None, Reason.RESET)}
    assert took < DEADLINE + SPARE


async def test_35_cookies_are_not_sent_back(client: httpx.AsyncClient) -> None:
    seen: list[Seen] = []
    async with sink("set-cookie", seen) as receiver:
        for _ in range(3):
            await attempt(client, f"http://127.0.0.1:{receiver.port}/hook")
    assert [each for each in seen if "cookie" in each.headers] == []


# --- names and addresses ---------------------------------------------------------------------------------------------


async def names(host: str) -> Sequence[str]:
    """A resolver of what these tests need."""
    match host:
        case "gone.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        case "servfail.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        case "slow.example":
            await asyncio.sleep(60)
        case "half-dead.example":
            return ["127.0.0.2", "127.0.0.1"]
        case "six.example":
            return ["::1"]
        case "metadata.example":
            return ["169.254.169.254"]
        case "mixed.example":
            return ["127.0.0.1", "10.0.0.1"]
    raise AssertionError(host)


@pytest.mark.parametrize(
    ("host", "reason", "words"),
    [
        ("gone.example", Reason.DNS, "check the spelling"),
        ("servfail.example", Reason.DNS, "Temporary failure"),
        ("slow.example", Reason.CONNECT_TIMEOUT, "in time"),
    ],
)
async def test_33_names_that_are_not_found_are_told_in_time(host: str, reason: Reason, words: str) -> None:
    async with guarded(resolve=names) as client:
        result, took = await attempt(client, f"https://{host}/hook")
    assert (result.reason, judge(result)) == (reason, Retry())
    assert words in result.detail
    assert took < DEADLINE + SPARE


async def test_34_a_dead_address_beside_a_good_one_does_no_harm() -> None:
    async with guarded(resolve=names) as client, sink("ok") as receiver:
        result, _ = await attempt(client, f"http://half-dead.example:{receiver.port}/hook")
    assert judge(result) == Delivered()
    assert result.address == "127.0.0.1"


async def test_34_a_host_with_ipv6_only_is_reached() -> None:
    async with guarded(resolve=names) as client, sink("ok", host="::1") as receiver:
        result, _ = await attempt(client, f"http://six.example:{receiver.port}/hook")
    assert (judge(result), result.address) == (Delivered(), "::1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "https://localhost:{}/", "http://[::ffff:127.0.0.1]:{}/"])
async def test_36_a_private_target_sees_no_connection(url: str) -> None:
    async with guarded(guard=Guard((), ())) as client, sink("ok") as receiver:
        result, _ = await attempt(client, url.format(receiver.port))
        assert receiver.connections == 0
    assert result.reason is Reason.BLOCKED_ADDRESS
    assert "ALLOWED_NETWORKS" in result.detail


@pytest.mark.parametrize("host", ["metadata.example", "mixed.example"])
async def test_36_a_name_of_a_private_address_is_refused(host: str) -> None:
    async with guarded(guard=Guard((ip_network("127.0.0.0/8"),)), resolve=names) as client, sink("ok") as receiver:
        result, _ = await attempt(client, f"http://{host}:{receiver.port}/hook")
        assert receiver.connections == 0
    assert result.reason is Reason.BLOCKED_ADDRESS


async def test_36_a_name_that_changes_is_looked_up_once() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebinding(_host: str) -> Sequence[str]:
        return answers.pop(0)

    async with guarded(resolve=rebinding) as client, sink("ok") as receiver:
        result, _ = await attempt(client, f"http://rebind.example:{receiver.port}/hook")
    assert (judge(result), len(answers)) == (Delivered(), 1)


# --- memory ----------------------------------------------------------------------------------------------------------

BOMBS = ("gzip-bomb", "gzip-in-gzip", "endless-body", "huge-body")
MIB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_64_bombs_at_once_take_less_than_20_mb() -> None:
    async with AsyncExitStack() as stack:
        sinks = [await stack.enter_async_context(sink(behaviour)) for behaviour in ("ok", *BOMBS)]
        urls = [f"http://127.0.0.1:{receiver.port}/hook" for receiver in sinks]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.webhooks.bombs", "64", *urls), stdout=subprocess.PIPE
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
    found: dict[str, Any] = json.loads(printed)
    assert found["judged"] == {"Delivered": 64}
    assert found["kept"] == 4096
    assert found["grown"] < 20 * MIB, found
