"""Places in a turn where a process is stopped or dies: what chance would need hours for happens in the first
seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pipeline.drill.evidence import ZOMBIES
from pipeline.turn import Lease, Turn
from pipeline.workflow import Workflow, submit
from pipeline.workflow import handler as stages

TURN: ContextVar[Turn] = ContextVar("turn")


class Place:
    """`NAME=stop:SECONDS*COUNT` or `NAME=die*COUNT`: so often, over all processes of a drill, the one that comes by is
    stopped or dies there."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition("=")
        action, _, count = rest.partition("*")
        self._seconds = float(action.partition(":")[2] or 0)
        self._count = int(count or 1)

    def pass_(self, name: str) -> None:
        """Called wherever a process comes by."""
        if name != self.name or not self._is_chosen():
            return
        if not self._seconds:
            os.kill(os.getpid(), signal.SIGKILL)
        turn = TURN.get()
        with Path(ZOMBIES).open("a") as file:
            file.write(json.dumps({"generation": turn.claim.subject_id, "fence": turn.claim.fence}) + "\n")
        subprocess.Popen(["/bin/sh", "-c", f"sleep {self._seconds}; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0)

    def _is_chosen(self) -> bool:
        for number in range(self._count):
            try:
                os.close(os.open(f"{self.name}.{number}.done", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False


def watch(place: Place) -> None:
    """Let every turn pass the places: `checking` the lease before a paid call, `paying`, `paid`, `ran.STEP`."""
    run, pay, valid = Workflow.run, submit.pay_once, Lease.valid

    async def watched_run(self: Workflow, turn: Turn) -> Any:
        TURN.set(turn)
        report = await run(self, turn)
        place.pass_(f"ran.{turn.claim.step}")
        return report

    async def watched_pay(*arguments: Any) -> Any:
        place.pass_("paying")
        result = await pay(*arguments)
        place.pass_("paid")
        return result

    def watched_valid(self: Lease) -> bool:
        if sys._getframe(1).f_code is submit._submit.__code__:
            place.pass_("checking")
        return valid(self)

    Workflow.run = watched_run  # type: ignore[method-assign]
    submit.pay_once = watched_pay
    Lease.valid = watched_valid  # type: ignore[method-assign]
    assert stages.submit is submit.submit
