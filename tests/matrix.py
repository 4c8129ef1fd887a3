"""The fault matrix: every provider x every fault of a paid call, with what was charged and what became of it.

Run it: `make matrix`. Every provider is asked through its own adapter, at the mock that speaks its dialect. A cell
shows how often it was charged, by the provider's own ledger and without what was refunded, and the end: `completed`,
`failed` or `held`. It is wrong if it was charged twice, or ended in neither way; then the exit code is 1.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.registry import PROVIDERS
from tests.everyone import at_the_mock
from tests.house import FAST, House, open_house
from tests.zygotes import Zygote, open_zygotes

IN_THE_PROMPT = {
    "no fault": "",
    "429": "[[429:1]]",
    "401, bad key": "[[401:1]]",
    "402, no credit": "[[402:1]]",
    "400, refused": "[[fail:invalid]]",
    "moderation at submit": "[[refuse:moderation]]",
    "503, not taken": "[[503-submit:1]]",
    "500, taken": "[[500-submit:1]]",
    "cut before it is taken": "[[cut-submit:1]]",
    "cut after the body was read": "[[drop-submit:1]]",
    "later than the read timeout": "[[slow-submit:6]]",
    "unreadable 200": "[[garbage-submit:1]]",
    "redirect": "[[redirect-submit:1]]",
    "moderation of the result": "[[fail:moderation]]",
    "failure, not billed": "[[fail:transient]]",
}
KILLS = {
    "kill -9 after the intent": "after submit intent#1",
    "kill -9 before the POST": "before submit POST#1",
    "kill -9 after the POST": "after submit POST#1",
    "kill -9 before the record": "before submit record#1",
}
SPEED = 200.0
QUICK = {"lease": 0.6, "submit_timeout": 4.0, "drain_timeout": 2.0, "on_unknown_submit": "hold", "lane_pause": 0.2}
QUICK |= {"spend_per_user_day": "none", "spend_per_provider_day": "none", "spend_per_day": "none"}
HELD_FOR = 3.0
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Cell:
    """What was charged for one generation, and how it ended; `None` means that it did not."""

    charges: int
    end: str | None
    code: str | None = None

    @property
    def good(self) -> bool:
        return self.charges <= 1 and self.end is not None


Row = dict[str, Cell]
Matrix = dict[str, Row]


async def matrix(folder: Path, names: tuple[str, ...] = tuple(PROVIDERS)) -> Matrix:
    """All cells: fault -> provider -> cell."""
    addresses = unreachable()
    prompts = await asked_in_prompts(folder / "prompts", names)
    kills, *rows = await asyncio.gather(
        killed(folder / "kills", names),
        *(unreached(folder / fault.replace(" ", "-"), names, address) for fault, address in addresses.items()),
    )
    return prompts | dict(zip(addresses, rows, strict=True)) | kills


async def asked_in_prompts(folder: Path, names: tuple[str, ...]) -> Matrix:
    """One house, every provider, every fault that a prompt can ask for."""
    async with open_house(folder, everyone=lambda url: at_the_mock(url, folder), speed=SPEED, **QUICK) as house:
        faults = list(IN_THE_PROMPT)
        rows = await asyncio.gather(*(_row(house, names, fault, IN_THE_PROMPT[fault]) for fault in faults))
    return dict(zip(faults, rows, strict=True))


async def _row(house: House, names: tuple[str, ...], fault: str, directive: str) -> Row:
    cells = await asyncio.gather(*(_cell(house, name, f"{fault} at {name} {directive}".strip()) for name in names))
    return dict(zip(names, cells, strict=True))


async def _cell(house: House, name: str, prompt: str) -> Cell:
    asked = await house.submit(prompt, provider=name)
    return await cell_of(house, asked["id"], prompt)


async def cell_of(house: House, generation_id: str, prompt: str, held_for: float = HELD_FOR) -> Cell:
    """The cell of a generation once it has ended, or has been held for a while."""
    deadline, held_since = time.monotonic() + PATIENCE, None
    while True:
        seen = await house.get(generation_id)
        now = time.monotonic()
        held_since = (held_since or now) if seen["stage"] == "held" else None
        settled = seen["status"] in {"completed", "failed", "cancelled"}
        if settled or now > deadline or (held_since is not None and now - held_since > held_for):
            break
        await asyncio.sleep(0.05)
    end = seen["status"] if settled else ("held" if held_since is not None else None)
    return Cell(await charges(house, prompt), end, (seen["error"] or {}).get("code"))


async def charges(house: House, prompt: str) -> int:
    """How often the provider charged for a prompt, by its own ledger, and gave nothing back."""
    body = (await house.provider.get("/ledger", params={"prompt": prompt})).json()
    return sum(entry["charged_micros"] > entry["refunded_micros"] for entry in body["entries"])


def unreachable() -> Mapping[str, str]:
    """Addresses at which nobody can be asked, and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return {
        "connect refused": f"http://127.0.0.1:{port}",
        "DNS failure": "http://no-such-provider.invalid",
        "TLS failure": "https://127.0.0.1:{mock_port}",
    }


async def unreached(folder: Path, names: tuple[str, ...], address: str) -> Row:
    """A house whose providers are all at an address where nobody answers."""

    def settings(mock_url: str) -> dict[str, Any]:
        reached_at = address.format(mock_port=mock_url.rpartition(":")[2])
        return at_the_mock(mock_url, folder, reached_at=reached_at) | {"mock_url": reached_at}

    async with open_house(folder, everyone=settings, speed=SPEED, **QUICK, queue_timeout=2.0) as house:
        return await _row(house, names, address.partition(":")[0] + " unreached", "")


async def killed(folder: Path, names: tuple[str, ...]) -> Matrix:
    """A worker that is killed with -9 at each boundary of the paid call, and another that carries on."""
    cells: Matrix = {fault: {} for fault in KILLS}
    async with open_zygotes(5) as pool:

        async def one(fault: str, name: str, number: int) -> None:
            cells[fault][name] = await _killed(pool, folder / str(number), name, KILLS[fault])

        pairs = [(fault, name) for fault in KILLS for name in names]
        await asyncio.gather(*(one(fault, name, number) for number, (fault, name) in enumerate(pairs)))
    return cells


async def _killed(pool: asyncio.Queue[Zygote], folder: Path, name: str, boundary: str) -> Cell:
    zygote = await pool.get()
    try:
        async with open_house(
            folder, work=False, everyone=lambda url: at_the_mock(url, folder), speed=SPEED, **QUICK
        ) as house:
            prompt = f"a fox of {name}"
            asked = await house.submit(prompt, provider=name)
            ours = house.plant.settings
            settings = {
                **FAST,
                **QUICK,
                **at_the_mock(house.mock.url, folder),
                "data_dir": folder,
                "mock_url": ours.mock_url,
                "mock_speed": SPEED,
                "webhook_url": ours.webhook_url,
                "port": ours.port,
                "public_url": ours.public_url,
            }
            order = {
                "settings": {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
                "log": str(folder / "worker.log"),
                "speed": SPEED,
                "until_held": True,
                "seconds": 36,
            }
            first = await zygote.run(**order, kill=boundary)
            assert first["killed"], f"{name}: nothing passes {boundary!r}"
            await zygote.run(**order)
            return await cell_of(house, asked["id"], prompt, held_for=0.0)
    finally:
        pool.put_nowait(zygote)


def wrong(cells: Matrix) -> list[str]:
    """What must not be, in words."""
    found = []
    for fault, row in cells.items():
        for name, cell in row.items():
            if cell.charges > 1:
                found.append(f"{name}, {fault}: charged {cell.charges} times")
            if cell.end is None:
                found.append(f"{name}, {fault}: ended neither settled nor held")
    return found


def table(cells: Matrix) -> str:
    """The matrix for people."""
    names = list(next(iter(cells.values())))
    width = max(map(len, cells))
    lines = [" " * width + "  " + "  ".join(f"{name:13}" for name in names)]
    for fault, row in cells.items():
        shown = (f"{row[name].charges} {row[name].end or 'OPEN'}" for name in names)
        lines.append(f"{fault:{width}}  " + "  ".join(f"{text:13}" for text in shown))
    return "\n".join(line.rstrip() for line in lines)


def main(run: Callable[..., Any] = asyncio.run) -> int:
    with tempfile.TemporaryDirectory(prefix="dailies-matrix-") as folder:
        cells = run(matrix(Path(folder)))
    print(table(cells))
    found = wrong(cells)
    print(
        "\n".join(found) if found else f"{sum(map(len, cells.values()))} cells: nothing charged twice, none left open"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
