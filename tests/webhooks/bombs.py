"""How much memory this process takes for many hostile answers at once: `python -m tests.webhooks.bombs N GOOD URL...`.

Prints, as JSON, the growth of the resident peak in bytes over what the same number of good answers takes, and what
became of the attempts.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from tests.webhooks.receivers import attempt, guarded
from webhooks.sender import judge


def peak(*, reset: bool = False) -> int:
    """The peak of resident memory in bytes since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def main(count: int, well: str, *urls: str) -> None:
    """`well` is a good receiver, with which everything that is made once gets made."""
    async with guarded() as client:
        await asyncio.gather(*(attempt(client, well, timeout=10) for _ in range(count)))
        before = peak(reset=True)
        wanted = [urls[n % len(urls)] for n in range(count)]
        done = await asyncio.gather(*(attempt(client, url, timeout=10) for url in wanted))
    judged = Counter(type(judge(result)).__name__ for result, _ in done)
    print(json.dumps({"grown": peak() - before, "judged": judged, "kept": max(len(r.response) for r, _ in done)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
