"""The time of a SQLite database, which has no clock but the host's: one that never goes back and never stands still.

Between two looks it is told by the monotonic clock, which all processes of a host share from boot to boot; the host's
own clock only says where that ought to be. A host that steps forward (a laptop that wakes up) is followed at once. One
that is set back is waited for: the database's time goes at half its speed until the host has caught up, so what is due
takes twice as long at the worst. What was reckoned stands in the table `clock`, is read in every transaction, and is
written only where it changes, under the lock that every writing transaction holds: so all processes agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

SLEW = 0.5
"""How much slower the database's time goes than the host's, while it is ahead of it."""
TOLERANCE_MS = 50
"""So far the host may be off before anything is written: its clock is set right by hairs all the time."""
REFRESH_MS = 60_000
"""So often it is written down anyway: after a boot, time goes on from there if the host's clock is behind it."""
HASTE_MS = 5
LOOKS = 3

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What the row says; all in milliseconds.

    Attributes:
        boot: of which boot of the host the monotonic clock is; empty where hosts do not tell.
        since: what the monotonic clock showed when this was reckoned.
        ahead: what was added to it then.
        target: what would have to be added for the host's own time.
    """

    boot: str
    since: int
    ahead: int
    target: int

    def time(self, monotonic: int) -> int:
        """The database's time."""
        return monotonic + self._added(monotonic)

    def _added(self, monotonic: int) -> int:
        return max(self.target, self.ahead - int((monotonic - self.since) * SLEW))


def reckon(last: Reckoning | None, boot: str, monotonic: int, host: int) -> Reckoning:
    """What holds from now on: `last` itself while the host's clock is where it was. Pure."""
    target = host - monotonic
    if last is None:
        return Reckoning(boot, monotonic, target, target)
    if last.boot != boot or monotonic < last.since:
        known = last.since + last.ahead - monotonic
        return Reckoning(boot, monotonic, max(target, known), target)
    if abs(target - last.target) <= TOLERANCE_MS and monotonic - last.since < REFRESH_MS:
        return last
    return Reckoning(boot, monotonic, max(target, last.time(monotonic) - monotonic), target)


class HostTime:
    """Tells the time of a SQLite database.

    Args:
        host: seconds since 1970 by the host's clock.
        monotonic: seconds of a clock that only goes forward and that all processes of a boot share.
        boot: which boot of the host this is.
    """

    def __init__(
        self, host: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic, boot: str = ""
    ) -> None:
        self._host = host
        self._monotonic = monotonic
        self._boot = boot

    def read(self, connection: Connection) -> int:
        """Milliseconds since 1970 in a transaction that only reads."""
        row = _row(connection)
        if row is None:
            return int(self._host() * 1000)
        monotonic, host = self._look()
        if row.boot != self._boot or monotonic < row.since:
            return reckon(row, self._boot, monotonic, host).time(monotonic)
        return row.time(monotonic)

    def write(self, connection: Connection) -> int:
        """The same in a transaction that holds the write lock; notes where the host's clock has gone."""
        row = _row(connection)
        monotonic, host = self._look()
        now = reckon(row, self._boot, monotonic, host)
        if now is not row:
            connection.exec_driver_sql(
                "INSERT INTO clock (id, boot, since, ahead, target) VALUES (1, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, since = excluded.since,"
                " ahead = excluded.ahead, target = excluded.target",
                (now.boot, now.since, now.ahead, now.target),
            )
        return now.time(monotonic)

    def _look(self) -> tuple[int, int]:
        """Both clocks at one moment: a process that is held up between them looks again."""
        for _ in range(LOOKS):
            before, host = self._monotonic(), self._host()
            after = self._monotonic()
            if (after - before) * 1000 <= HASTE_MS:
                break
        return int(after * 1000), int(host * 1000)


def this_boot() -> str:
    """Which boot of this host it is, where the kernel tells (Linux): containers of one host share it."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _row(connection: Connection) -> Reckoning | None:
    found = connection.exec_driver_sql("SELECT boot, since, ahead, target FROM clock WHERE id = 1").fetchone()
    return None if found is None else Reckoning(*found)
