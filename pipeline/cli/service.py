"""Running the parts of the service in this process, with their orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline.app import Plant, announce, make_api, make_worker, open_plant
from pipeline.cli.mock import mock_beside
from pipeline.cli.ports import free_port, listening
from pipeline.cli.schema import guarded
from pipeline.cli.signals import stop_signals
from pipeline.config import Settings
from pipeline.safety import check_exposure
from pipeline.server import HttpServer
from pipeline.telemetry import configure
from pipeline.worker import run_until


async def run_service(settings: Settings, *, api: bool, worker: bool) -> None:
    """Run until a signal. The worker drains first, then the API closes, then the mock. Raises CommandError."""
    configure(settings.log_format, settings.log_level)
    with guarded(), stop_signals() as stop:
        if api:
            check_exposure(settings)
            settings = _with_port(settings)
        async with AsyncExitStack() as stack:
            if api and worker:
                await stack.enter_async_context(mock_beside(settings))
            plant = await stack.enter_async_context(open_plant(settings))
            if api:
                await stack.enter_async_context(api_server(plant))
            announce(plant, _role(api, worker), _listening_url(settings) if api else None)
            await (run_until(make_worker(plant), stop) if worker else stop.wait())


def _role(api: bool, worker: bool) -> str:
    return "serve" if api and worker else "api" if api else "worker"


def _listening_url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _with_port(settings: Settings) -> Settings:
    """PORT=0 takes a free one, which our own links then name."""
    if settings.port:
        return settings
    with listening(settings.host, 0, "HOST"):
        return settings.model_copy(update={"port": free_port(settings.host)})


@asynccontextmanager
async def api_server(plant: Plant) -> AsyncIterator[None]:
    """The API of a plant, listening on HOST:PORT. Raises CommandError when it cannot."""
    host, port = plant.settings.host, plant.settings.port
    async with AsyncExitStack() as stack:
        with listening(host, port, "HOST and PORT"):
            await stack.enter_async_context(HttpServer(make_api(plant), host, port))
        yield


async def drain_queue(settings: Settings) -> int:
    """Take what is due until nothing is, or until a signal; how many turns that took. Raises CommandError."""
    configure(settings.log_format, settings.log_level)
    with guarded(), stop_signals() as stop:
        async with open_plant(settings) as plant:
            worker = make_worker(plant)
            work = asyncio.create_task(worker.drain_queue())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            worker.stop()
            return await work
