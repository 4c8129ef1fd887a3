"""An API process that counts. Run as a program with its settings as JSON; prints its port, then for each line on stdin
how often it has read from the database, and its resident memory in bytes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline import telemetry
from pipeline.app import make_api, open_plant
from pipeline.config import Settings
from pipeline.server import HttpServer


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def serve(values: dict[str, Any]) -> None:
    telemetry.configure("json", "warning")
    async with open_plant(Settings(_env_file=None, **values)) as plant:  # type: ignore[call-arg]
        read, reads = plant.db.read, 0

        async def counted(query: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(query)

        plant.db.read = counted  # type: ignore[method-assign]
        async with HttpServer(make_api(plant), "127.0.0.1", 0) as server:
            print(json.dumps({"port": server.port}), flush=True)
            lines = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
            while await lines.readline():
                print(json.dumps({"reads": reads, "rss": resident()}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
