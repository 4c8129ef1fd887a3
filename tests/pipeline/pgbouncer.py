"""A PgBouncer of our own before a test server: transaction pooling, on a free port of 127.0.0.1."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.pipeline.engines import PostgresServer, server_user

MISSING = "PgBouncer is not installed (Debian: apt install pgbouncer)"

CONFIG = """
[databases]
* = host=127.0.0.1 port={server} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextmanager
def pgbouncer(server: PostgresServer, *, size: int = 3) -> Iterator[int]:
    """Its port. `size` connections to the server serve all clients in turn, so that hardly two transactions of one
    client meet the same server process. Skips where it is not installed."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="dailies-pgbouncer-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "ini"
    config.write_text(CONFIG.format(server=server.port, port=port, size=size, folder=folder))
    user = server_user()
    if user:
        shutil.chown(folder, user)
    process = subprocess.Popen([program, "-q", config], user=user, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        _await(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            assert process.poll() is None, "PgBouncer ended"
            assert time.monotonic() < deadline, "PgBouncer does not start"
            time.sleep(0.02)
        else:
            return
