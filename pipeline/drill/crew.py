"""The crew: processes that are started, killed, stopped and started again. Only those that were started here are ever
signalled, each by its own pid."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

END_SECONDS = 15.0
MANY_ENDS = 5
STARTED = b'"service.started"'


class DrillError(Exception):
    """The drill itself cannot go on; the message says why."""


@dataclass(slots=True)
class Member:
    """A place in the crew, which one process after the other fills. Start `keep` as a task; `end` ends it.

    Attributes:
        ended_alone: exit codes of processes that ended although nobody had hit them.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ended_alone: list[int] = field(default_factory=list)
    _starts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _log: Path | None = None
    _up: bool = False
    _hit: bool = False
    _stopped: bool = False
    _ending: bool = False

    async def keep(self) -> None:
        """Have a process here until `end`. Raises DrillError if it ends by itself again and again."""
        while not self._ending:
            await self._start()
            assert self._process is not None
            code = await self._process.wait()
            self._note_end(code)

    def _note_end(self, code: int) -> None:
        if self._hit or self._ending or code == -signal.SIGKILL:
            return
        self.ended_alone.append(code)
        if len(self.ended_alone) > MANY_ENDS:
            raise DrillError(f"{self.name} ends by itself with code {code}: {self._last_words()}")

    async def _start(self) -> None:
        self._starts += 1
        self._log = self.folder / f"{self.name}.{self._starts:04}.log"
        self._up = self._hit = self._stopped = False
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def up(self) -> bool:
        """Whether the process of this moment has said that it is ready."""
        if not self._up and self._log is not None:
            with suppress(OSError):
                self._up = STARTED in self._log.read_bytes()
        return self._up and not self._hit

    @property
    def pid(self) -> int | None:
        """Of the process of this moment."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def kill(self) -> None:
        """As a machine that fails would: nothing is said, nothing is tidied up."""
        self._hit = True
        self._signal(signal.SIGKILL)

    async def stop(self, seconds: float) -> bool:
        """Freeze the process for a while, as a machine does that is moved, swaps, or is out of CPU. False if it was
        frozen already."""
        process = self._process
        if self._stopped or process is None:
            return False
        self._stopped = True
        self._signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        if self._process is process:
            self._signal(signal.SIGCONT)
            self._stopped = False
        return True

    async def end(self) -> None:
        """Ask it to stop, and see to it."""
        self._ending = True
        process = self._process
        if process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        self._signal(signal.SIGKILL)
        await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log else []
        return lines[-1][-500:] if lines else "it said nothing"


async def all_up(members: Sequence[Member], seconds: float) -> None:
    """Wait until every member is ready. Raises DrillError."""
    deadline = time.monotonic() + seconds
    while not all(member.up for member in members):
        if time.monotonic() > deadline:
            slow = ", ".join(member.name for member in members if not member.up)
            raise DrillError(f"not ready after {seconds:g} s: {slow}; the logs are in {members[0].folder}")
        await asyncio.sleep(0.05)
