"""Commands in this process, against servers in a thread beside: for tests of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.cli import main
from pipeline.config import Settings
from pipeline.server import HttpServer
from tests.house import House, open_house

BARE = {name.upper(): None for name in Settings.model_fields} | {"DAILIES_URL": None}
"""Nothing of the machine's own environment gets in."""


def dailies(*args: str, env: dict[str, str] | None = None, input: str | None = None) -> Result:  # noqa: A002
    """Run a command in the working directory with these variables and no other settings."""
    return CliRunner(env=BARE | (env or {})).invoke(main, args, prog_name="dailies", input=input)


def printed_json(*args: str, env: dict[str, str] | None = None) -> Any:
    """What a command prints with --json; anything but exit code 0 fails."""
    result = dailies(*args, "--json", env=env)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class Neighbour:
    """A house in another thread, and how to speak to it from this one."""

    def __init__(self, house: House, portal: BlockingPortal) -> None:
        self.house = house
        self.portal = portal
        settings = house.plant.settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self.env = {"DAILIES_URL": self.url}
        self.local = {
            "PROVIDER": "mock",
            "PORT": str(settings.port),
            "DATA_DIR": str(settings.data_dir),
            "MOCK_URL": settings.mock_url,
            "WEBHOOK_URL": settings.webhook_url or "",
            "ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
        } | ({"DATABASE_URL": settings.database_url} if settings.database_url else {})
        """What a command on the same machine reads, to find the same service."""

    def call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await a coroutine function of the house in its own loop."""

        async def run() -> Any:
            return await work(*args, **kwargs)

        return self.portal.call(run)

    def run(self, *args: str, env: dict[str, str] | None = None, **options: Any) -> Result:
        """A command that speaks to this house."""
        return dailies(*args, env=self.env | (env or {}), **options)

    def failed(self, prompt: str = "x [[fail:moderation]]", **members: Any) -> str:
        """The id of a generation that has failed."""
        taken = self.call(self.house.submit, prompt, **members)
        assert self.call(self.house.ended, taken["id"])["status"] == "failed"
        return str(taken["id"])

    def completed(self, prompt: str = "a red fox", **members: Any) -> str:
        """The id of a generation that is completed."""
        taken = self.call(self.house.submit, prompt, **members)
        assert self.call(self.house.ended, taken["id"])["status"] == "completed"
        return str(taken["id"])


@contextmanager
def neighbour(folder: Path, **values: Any) -> Iterator[Neighbour]:
    """A house beside us, until the end."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_house(folder, **values)) as house,
    ):
        yield Neighbour(house, portal)


@contextmanager
def program(answer: Callable[[Request, bytes], Response]) -> Iterator[str]:
    """Some other program's HTTP server beside us, which answers everything by `answer`: its URL."""

    async def anything(request: Request) -> Response:
        return answer(request, await request.body())

    methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", anything, methods=methods)])
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(HttpServer(app, "127.0.0.1", 0)) as server,
    ):
        yield f"http://127.0.0.1:{server.port}"
