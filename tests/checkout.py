"""A copy of the checkout, in which tests run what the documents say."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVERS = ("dailies serve", "dailies receive", "dailies api")


@dataclass(frozen=True)
class Block:
    """A block of code of a document, with the heading that it stands under."""

    language: str
    text: str
    heading: str

    @property
    def commands(self) -> list[str]:
        """Its lines, continued ones joined."""
        return [line.strip() for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """The blocks of a document, in order."""
    found, heading = [], ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE):
        if match[1] is not None:
            heading = match[1]
        else:
            found.append(Block(match[2], match[3], heading))
    return [block for block in found if language is None or block.language == language]


@dataclass(frozen=True)
class Checkout:
    """The copy, and the port that stands for each port of the documents."""

    folder: Path
    ports: dict[str, str]

    def local(self, command: str) -> str:
        """A command of a document on the ports of this copy."""
        for theirs, ours in self.ports.items():
            command = command.replace(f"localhost:{theirs}", f"localhost:{ours}")
        return command

    @property
    def api(self) -> str:
        return f"http://localhost:{self.ports['8000']}"

    @property
    def receiver(self) -> str:
        return f"http://localhost:{self.ports['3000']}"

    def run(self, command: str) -> str:
        """What a command prints; it must end well, and a request must be answered well."""
        command = self.local(command).replace("curl ", "curl --fail-with-body ")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=clean(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def started(self, command: str, log: Path, url: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A server, once it answers; ended by its own process id."""
        default = f"{self.receiver}/received" if "receive" in command else f"{self.api}/healthz"
        ready = f"{self.api}/readyz" if "serve" in command else default
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], cwd=self.folder, env=clean(), stdout=out, stderr=out
            )
        try:
            wait_for(url or ready, log)
            yield process
        finally:
            process.terminate()
            process.wait(20)


def copy_checkout(folder: Path) -> Checkout:
    """A copy of what git tracks (or would), with this environment in its place, on free ports."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (folder / ".venv" / ".runtime").touch()
    ports = {name: str(free_port()) for name in ("8000", "8001", "3000")}
    example = folder / ".env.example"
    text = example.read_text().replace("127.0.0.1:8001", f"127.0.0.1:{ports['8001']}")
    text += f"\nPORT={ports['8000']}\nWEBHOOK_URL=http://localhost:{ports['3000']}/api/webhooks/worker\n"
    example.write_text(text)
    return Checkout(folder, ports)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean() -> dict[str, str]:
    """An environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}


def wait_for(url: str, log: Path, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer:\n{log.read_text()}"
            time.sleep(0.05)
