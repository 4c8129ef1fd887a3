"""Every fault of both databases, in its long form; prints a table and ends with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.db import Database
from pipeline.db.migrate import migrate
from pipeline.drill.plan import Plan
from tests.faults.breaking import Fault, mount, unmount
from tests.faults.catalogue import FULL, POSTGRES, SQLITE
from tests.faults.measuring import Report, measure, table, wrong
from tests.faults.stage import Stage, open_stage
from tests.pipeline.engines import start_postgres

PLAN = Plan(seed=1, recovery="none", workers=2, in_flight=200, lease=3.0, submit_timeout=4.0, speed=30.0)
"""`none`: what is forgotten, or asked twice, nobody clears up."""
MEGABYTES = 700


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """A small disk at `folder`; False where none may be made here, and then it is an ordinary folder."""
    made = mount(folder, MEGABYTES)
    try:
        yield made
    finally:
        if made:
            unmount(folder)


async def on_sqlite(folder: Path, faults: tuple[Fault, ...], args: argparse.Namespace) -> Report:
    with disk(folder / "disk") as small:
        url = f"sqlite:///{folder / 'disk' / 'dailies.db'}"
        db = Database(url)
        migrate(db.engine)
        db.close()
        async with open_stage(folder, folder / "disk", PLAN, url) as stage:
            return await _measured(stage, (*faults, *(FULL["sqlite"] if small else ())), args)


async def on_postgres(folder: Path, faults: tuple[Fault, ...], args: argparse.Namespace) -> Report:
    (folder / "logs").mkdir(parents=True)
    with disk(folder / "disk") as small:
        server = start_postgres(folder / "disk")
        try:
            url = server.url(server.create("dailies_template"))
            async with open_stage(folder, folder / "logs", PLAN, url, server=server) as stage:
                return await _measured(stage, (*faults, *(FULL["postgres"] if small else ())), args)
        finally:
            with suppress(ProcessLookupError):
                server.stop()


async def _measured(stage: Stage, faults: tuple[Fault, ...], args: argparse.Namespace) -> Report:
    wanted = [fault for fault in faults if args.only is None or fault.name in args.only]
    return await measure(stage, wanted, rate=args.rate, quiet=args.quiet, seconds=args.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rate", type=float, default=6.0, help="orders a second (6)")
    parser.add_argument("--quiet", type=float, default=15.0, help="seconds that are measured before and after (15)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a fault (6)")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), help="this one alone")
    parser.add_argument("--only", action="append", help="this fault alone (may be repeated)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dailies-faults-"))
    folder.chmod(0o755)  # the server runs as a user of its own
    reports = []
    if args.engine != "postgres":
        reports.append(asyncio.run(on_sqlite(folder / "sqlite", SQLITE, args)))
    if args.engine != "sqlite":
        reports.append(asyncio.run(on_postgres(folder / "postgres", POSTGRES, args)))
    print(table(reports))
    found = [words for report in reports for words in wrong(report)]
    print(
        "\n".join(found) or "every fault was survived: nothing paid twice, lost or told twice, and the throughput back"
    )
    if not found:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
