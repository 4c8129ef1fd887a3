"""Run as a process of its own: puts a file and prints by how many kilobytes that raised this process's peak memory."""

import asyncio
import hashlib
import json
import resource
import ssl
import sys
from pathlib import Path

import httpx

from pipeline.storage import Account, S3Storage


async def main(account: Account, source: Path, part: int) -> int:
    whole = hashlib.sha256()
    with source.open("rb") as file:
        while chunk := file.read(1 << 20):
            whole.update(chunk)
    context = ssl.create_default_context(cafile=account.authority)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        storage = S3Storage(account, client, single_up_to=1 << 20, smallest_part=part)
        await storage.check()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await storage.put("memory/a.mp4", source, content_type="video/mp4", sha256=whole.hexdigest())
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await storage.delete("memory/a.mp4")
        await storage.close()
    return after - before


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(asyncio.run(main(Account(**given["account"]), Path(given["source"]), given["part"])))
