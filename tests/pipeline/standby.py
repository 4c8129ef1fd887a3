"""A PostgreSQL server with a streaming standby, as two machines would be: tests kill the one and promote the other."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGQUIT

import psycopg

from tests.house import free_port
from tests.pipeline.engines import PostgresServer, binaries, server_user, start_postgres, start_server


@dataclass
class Pair:
    """Two servers; commits are answered once both have them."""

    primary: PostgresServer
    standby: PostgresServer

    def url(self, name: str = "dailies_template") -> str:
        """Both hosts, of which the one that can be written to is taken."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"

    def fail_over(self) -> None:
        """The primary dies as a machine does, and the standby takes its place."""
        self.primary.stop(SIGQUIT)
        self.standby.admin("SELECT pg_promote(true, 20)")

    def switch_over(self) -> None:
        """The primary is closed for writing without ending any connection, and the standby takes its place once what
        was being written is there, too: a COMMIT that comes later would wait for it for ever."""
        self.primary.admin("ALTER SYSTEM SET default_transaction_read_only = on")
        self.primary.admin("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 20
        with psycopg.connect(self.primary.url("postgres"), autocommit=True) as connection:
            while connection.execute(_WRITING).fetchone() != (0,):
                assert time.monotonic() < deadline, "transactions stay open"
                time.sleep(0.02)
        self.standby.admin("SELECT pg_promote(true, 20)")


_WRITING = """
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND (backend_xid IS NOT NULL OR wait_event = 'SyncRep' OR xact_start < clock_timestamp() - interval '10 s')"""


@contextmanager
def pair() -> Iterator[Pair]:
    """Both started; skips where PostgreSQL is not installed."""
    primary = start_postgres()
    standby = None
    try:
        standby = _follow(primary)
        primary.admin("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.admin("SELECT pg_reload_conf()")
        _await_sync(primary)
        yield Pair(primary, standby)
    finally:
        for server in (standby, primary):
            if server is not None:
                if server.process.poll() is None:
                    server.stop(SIGQUIT)
                shutil.rmtree(server.folder)


def _follow(primary: PostgresServer) -> PostgresServer:
    folder = Path(tempfile.mkdtemp(prefix="dailies-standby-"))
    user = server_user()
    if user:
        shutil.chown(folder, user)
    programs = binaries()
    assert programs is not None
    copy = [programs / "pg_basebackup", "-d", primary.url("postgres"), "-D", folder / "data", "-R", "-c", "fast"]
    subprocess.run([*copy, "--no-sync"], check=True, user=user, cwd=folder)
    port = free_port()
    return PostgresServer(folder, port, start_server(folder, port))


def _await_sync(primary: PostgresServer) -> None:
    deadline = time.monotonic() + 20
    with psycopg.connect(primary.url("postgres"), autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone() is None:
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.02)
