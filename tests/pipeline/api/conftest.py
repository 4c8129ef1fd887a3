"""One house without a worker for all tests of a module; each test uses names of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.server import HttpServer
from tests.house import House, open_house
from tests.pipeline.api.settings import SETTINGS


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def house(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """API, mock and receiver; nothing is ever taken from the queue."""
    async with open_house(tmp_path_factory.mktemp("house"), work=False, **SETTINGS) as found:
        yield found


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
async def house_on_each_engine(
    anyio_backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """The same on both databases; modules whose tests reach the database call it `house`."""
    maker = request.getfixturevalue("sqlite_places" if request.param == "sqlite" else "postgres_server")
    with maker.new() as place:
        settings = SETTINGS | {"database_url": place.url}
        async with open_house(tmp_path_factory.mktemp("house"), work=False, **settings) as found:
            yield found


OPERATOR = {"Authorization": "Bearer the operator"}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
async def guarded_house_on_each_engine(
    anyio_backend: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """The same with a key of the operator's, so that tenants' keys are told from it."""
    maker = request.getfixturevalue("sqlite_places" if request.param == "sqlite" else "postgres_server")
    with maker.new() as place:
        settings = SETTINGS | {"database_url": place.url, "api_key": "the operator"}
        async with open_house(tmp_path_factory.mktemp("house"), work=False, **settings) as found:
            yield found


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Names that no other test of the module uses."""
    count = iter(range(1_000_000))
    return lambda: f"{abs(hash(request.node.name)):x}-{next(count)}"


VIDEO = bytes(range(256)) * 40


@pytest.fixture(scope="session")
def video() -> bytes:
    """The bytes that `complete` stores; nothing in the API looks into them."""
    return VIDEO


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Callable[[House], Awaitable[dict[str, Any]]]:
    """Make a generation that has ended well, as the worker would have left it."""

    async def make(house: House) -> dict[str, Any]:
        made = await house.submit("a finished fox")
        key, sha256 = f"default/{made['id']}/sub_1.mp4", hashlib.sha256(VIDEO).hexdigest()
        source = tmp_path_factory.mktemp("source") / "video"
        source.write_bytes(VIDEO)
        await house.plant.storage.put(key, source, content_type="video/mp4", sha256=sha256)
        values = {
            "status": "completed",
            "stage": None,
            "video_key": key,
            "video_sha256": sha256,
            "video_bytes": len(VIDEO),
            "video_duration": 4.0,
        }
        await house.plant.db.write(
            lambda tx: tx.update("generation", values | {"finished_at": tx.now}, "id = :id", {"id": made["id"]})
        )
        return await house.get(made["id"])

    return make


@dataclass
class Listener:
    """Takes whatever is posted to it, verified or not."""

    url: str = ""
    status: int = 204
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A receiver that asks for no signature."""
    heard = Listener()

    async def take(request: Request) -> Response:
        heard.requests.append((dict(request.headers), await request.body()))
        return Response(status_code=heard.status)

    app = Starlette(routes=[Route("/hook", take, methods=["POST"])])
    async with HttpServer(app, "127.0.0.1", 0) as server:
        heard.url = f"http://127.0.0.1:{server.port}/hook"
        yield heard
