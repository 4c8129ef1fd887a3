"""Names to addresses, on threads of our own.

`getaddrinfo` can block for half a minute. On the loop's default executor a few slow names would stop every other user
of it, and executor threads are waited for when the process ends. So: a few daemon threads, a name on one at a time.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""A host name to literal addresses, best first; raises OSError when there are none."""

_Errand = tuple[str, asyncio.AbstractEventLoop, "asyncio.Future[list[str]]"]


class Lookups:
    """A Resolve over a function that blocks. At most `threads` names are looked up at once, the others wait their turn.

    Callers that ask for a name under way share its answer; nothing is kept after that (the system caches).
    """

    def __init__(self, threads: int = 8, look_up: Callable[[str], list[str]] | None = None) -> None:
        self._limit = threads
        self._look_up = look_up or system_addresses
        self._threads: list[threading.Thread] = []
        self._errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str) -> list[str]:
        """The addresses of `host`. Raises OSError (socket.gaierror), or ValueError for a name no DNS can hold."""
        answer = self._under_way.get(host) or self._ask(host)
        return await asyncio.shield(answer)

    def close(self) -> None:
        """Let the threads end; one that is in a lookup ends after it, and nobody waits."""
        for _ in self._threads:
            self._errands.put(None)
        self._threads.clear()

    def _ask(self, host: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        self._under_way[host] = answer
        answer.add_done_callback(lambda done: self._forget(host, done))
        self._errands.put((host, loop, answer))
        if len(self._threads) < self._limit:
            thread = threading.Thread(target=_work, args=(self._errands, self._look_up), name="dns", daemon=True)
            self._threads.append(thread)
            thread.start()
        return answer

    def _forget(self, host: str, answer: asyncio.Future[list[str]]) -> None:
        del self._under_way[host]
        if not answer.cancelled():
            answer.exception()  # retrieved, or asyncio would complain when every caller has given up


def _work(errands: SimpleQueue[_Errand | None], look_up: Callable[[str], list[str]]) -> None:
    while (errand := errands.get()) is not None:
        host, loop, answer = errand
        addresses: list[str] = []
        failure: Exception | None = None
        try:
            addresses = look_up(host)
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop is gone, and whoever asked with it
            loop.call_soon_threadsafe(_deliver, answer, addresses, failure)


def system_addresses(host: str) -> list[str]:
    """What the system's resolver says, in its order; blocks. Raises OSError or ValueError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _deliver(answer: asyncio.Future[list[str]], addresses: list[str], failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is not None:
        answer.set_exception(failure)
    else:
        answer.set_result(addresses)
