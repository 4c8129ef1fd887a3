"""A pool of the programs that fork workers which die on cue: see `tests.zygote`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0


class Zygote:
    """The program that forks workers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, **order: Any) -> dict[str, Any]:
        """Fork one worker, and return once it has ended: `killed`, `exit`, and the boundaries that it `seen`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(self._process.stdout.readline(), PATIENCE))
        return answer


@asynccontextmanager
async def open_zygotes(count: int) -> AsyncIterator[asyncio.Queue[Zygote]]:
    """A pool of them."""
    pool: asyncio.Queue[Zygote] = asyncio.Queue()
    processes = []
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.zygote",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        processes.append(process)
        pool.put_nowait(Zygote(process))
    try:
        yield pool
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
