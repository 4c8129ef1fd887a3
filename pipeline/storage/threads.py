"""Blocking calls off the event loop, in a few threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A small executor. What was started runs to its end even if nobody waits any more."""

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` in a thread and give back what it gives or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))

    def start(self, call: Callable[[], object]) -> None:
        """Run `call` without waiting for it or its errors."""
        self._executor.submit(call)

    async def close(self) -> None:
        """Wait for the calls that run, refuse new ones."""
        await asyncio.to_thread(self._executor.shutdown)
