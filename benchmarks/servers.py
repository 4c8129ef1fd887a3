"""The servers that benchmarks start: PostgreSQL as it comes, durable, and the mock in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def cpu_of_family(pid: int) -> float:
    """The same with all living children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return cpu_of(pid) + sum(cpu_of(int(child)) for child in children.read_text().split())


@dataclass
class Postgres:
    """A server of our own, with `fsync` on, as the package configures it but for its port."""

    pid: int
    url: str

    def ask(self, sql: str) -> object:
        """The one value of a statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(sql.encode()).fetchone()
        return row[0] if row else None


def programs() -> Path | None:
    """Where the newest PostgreSQL's programs are, if there are any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Start one in a folder, and end it by its id. Raises FileNotFoundError where it is not installed."""
    where = programs()
    if where is None:
        raise FileNotFoundError("PostgreSQL's server programs are not installed (Debian: apt install postgresql)")
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to be root
    folder.mkdir()
    if user:
        shutil.chown(folder, user)
        folder.parent.chmod(0o755)
    initdb: list[str | Path] = [where / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run(initdb, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    port = _free_port()
    options = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with open(folder.parent / "postgres.log", "ab") as log:
        server = subprocess.Popen(
            [where / "postgres", "-D", folder / "data", *options], user=user, cwd=folder, stdout=log, stderr=log
        )
    try:
        _until(lambda: _answers(port))
        yield Postgres(server.pid, f"postgresql://postgres@127.0.0.1:{port}/postgres")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass
class MockProcess:
    """The mock provider."""

    pid: int
    url: str


@contextmanager
def mock(state: Path, speed: float) -> Iterator[MockProcess]:
    """Serve a ledger that may hold work already."""
    port = _free_port()
    words = ["-m", "pipeline", "mock", "--port", str(port), "--state", str(state), "--speed", str(speed)]
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _is_up(url))
        yield MockProcess(process.pid, url)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(good: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        if time.monotonic() > deadline:
            raise TimeoutError(f"a server does not answer after {seconds:g} s")
        time.sleep(0.05)
