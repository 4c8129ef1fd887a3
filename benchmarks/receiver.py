"""A receiver that costs little: many ports, 200 to everything, and when the first byte of each event came.

Run as `python -m benchmarks.receiver PORTS`: it prints the ports as JSON, and at each line on its standard input the
times by webhook-id, as nanoseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_ID = re.compile(rb"webhook-id: *([^\r]+)", re.IGNORECASE)


class Receiver(asyncio.Protocol):
    """One connection. Requests come one after the other, as our clients send them."""

    times: dict[str, int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.data, self.began = b"", 0

    def data_received(self, data: bytes) -> None:
        if not self.data:
            self.began = time.monotonic_ns()
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        event = _ID.search(head)
        if event:
            self.times.setdefault(event[1].decode(), self.began)
        self.data = b""
        self.transport.write(ANSWER)


async def main(ports: int) -> None:
    loop = asyncio.get_running_loop()
    Receiver.times = {}
    servers = [await loop.create_server(Receiver, "127.0.0.1", 0, backlog=1024) for _ in range(ports)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(Receiver.times), flush=True)


@dataclass
class Remote:
    """A receiver in a process of its own."""

    ports: list[int]
    process: subprocess.Popen[str]

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}/hook" for port in self.ports]

    def times(self) -> dict[str, int]:
        """First bytes by webhook-id, in nanoseconds of the monotonic clock."""
        cast("IO[str]", self.process.stdin).write("\n")
        cast("IO[str]", self.process.stdin).flush()
        return cast("dict[str, int]", json.loads(cast("IO[str]", self.process.stdout).readline()))


@contextmanager
def receiving(ports: int) -> Iterator[Remote]:
    """A receiver with so many ports, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver", str(ports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    try:
        yield Remote(json.loads(cast("IO[str]", process.stdout).readline()), process)
    finally:
        cast("IO[str]", process.stdin).close()
        process.wait(5)
        cast("IO[str]", process.stdout).close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
