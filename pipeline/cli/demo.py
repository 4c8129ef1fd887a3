"""`dailies demo`: the whole path once, with everyone's part played in this process over real HTTP."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import httpx
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from rich.console import Console

from pipeline.app import announce, make_worker, open_plant
from pipeline.cli.base import CommandError, Failed
from pipeline.cli.client import Client
from pipeline.cli.mock import run_mock
from pipeline.cli.ports import free_port
from pipeline.cli.proof import Proof, report
from pipeline.cli.schema import guarded
from pipeline.cli.service import api_server
from pipeline.cli.signals import stop_signals
from pipeline.cli.watch import display, wait_for
from pipeline.cli.words import failure_text
from pipeline.config import Settings
from pipeline.media import InvalidMedia, Video, probe
from pipeline.server import HttpServer
from pipeline.telemetry import configure
from pipeline.worker import run_until
from webhooks.receiver import Received, create_receiver

BOUND = 60.0
"""Seconds for the whole of it."""
SPEED = 15.0
"""A video takes the mock about 2 s: long enough to see it run."""
EAGER = 60.0
"""The speed that the adapter is told: it looks earlier and more often, so that progress is seen."""
MARK = ".dailies-demo"
HOST = "127.0.0.1"
WEBHOOK_PATH = "/api/webhooks/worker"


class DemoSettings(Settings):
    """Settings that come from nowhere but the arguments: no environment, no `.env`, no secret files."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments alone."""
        return (init_settings,)


@dataclass(slots=True)
class _Inbox:
    """What the receiver got, and the secrets it verifies with."""

    secrets: list[str] = field(default_factory=list)
    received: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)


async def run_demo(prompt: str, folder: Path, *, keep_running: bool) -> None:
    """Run it. Raises Failed unless a verified webhook and a playable video came of it."""
    prepare(folder)
    log = folder / "service.log"
    with log.open("w", encoding="utf-8") as stream:
        configure("text", "info", stream)
        try:
            with guarded():
                await _run(prompt, folder, keep_running)
        except TimeoutError:
            raise Failed(f"no end within {BOUND:g} s; what happened is in {log}") from None
        except CommandError as error:
            raise Failed(f"{error.message}\n  the service's log: {log}") from None


def prepare(folder: Path) -> None:
    """An empty folder of ours. Raises CommandError for one that holds anything else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise CommandError(f"{folder} holds files that are not of a demo: choose an empty --data-dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("`dailies demo` deletes this directory when it runs again.\n")


async def _run(prompt: str, folder: Path, keep_running: bool) -> None:
    started = time.monotonic()
    inbox = _Inbox()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        async with _bounded(stop):
            settings = await stack.enter_async_context(_service(folder, inbox))
            click.echo(f"API, worker, mock provider and receiver run on {HOST}; their log is {folder / 'service.log'}")
            proof = await _prove(prompt, folder, settings, inbox)
        click.echo(report(proof, settings, folder, seconds=time.monotonic() - started))
        if keep_running:
            click.echo(f"\nThe service goes on at {settings.base_url}; Ctrl-C ends it.")
            await stop.wait()


@asynccontextmanager
async def _bounded(stop: asyncio.Event) -> AsyncIterator[None]:
    """End what is inside at the time bound (TimeoutError), or at the first signal (KeyboardInterrupt)."""
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(stop.wait())
    watcher.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        async with asyncio.timeout(BOUND):
            yield
    except asyncio.CancelledError:
        if stop.is_set():
            raise KeyboardInterrupt from None
        raise
    finally:
        watcher.cancel()


@asynccontextmanager
async def _service(folder: Path, inbox: _Inbox) -> AsyncIterator[Settings]:
    """Everything running, on free ports. Leaving it stops everything."""
    async with AsyncExitStack() as stack:
        receiver = create_receiver(lambda: inbox.secrets, on_event=inbox.received.put_nowait, now=time.time)
        server = await stack.enter_async_context(HttpServer(receiver, HOST, 0))
        ports = {"port": free_port(), "mock": free_port(), "receiver": server.port}
        settings = _settings(folder, **ports)
        await stack.enter_async_context(
            run_mock(settings, host=HOST, port=ports["mock"], speed=SPEED, state=folder / "mock.db")
        )
        plant = await stack.enter_async_context(open_plant(settings))
        inbox.secrets[:] = plant.secrets.webhook
        await stack.enter_async_context(api_server(plant))
        announce(plant, "demo", settings.base_url)
        stop = asyncio.Event()
        work = asyncio.create_task(run_until(make_worker(plant), stop))
        try:
            yield settings
        finally:
            stop.set()
            await work


def _settings(folder: Path, *, port: int, mock: int, receiver: int) -> Settings:
    return DemoSettings(
        host=HOST,
        port=port,
        data_dir=folder,
        provider="mock",
        mock_url=f"http://{HOST}:{mock}",
        mock_speed=EAGER,
        webhook_url=f"http://{HOST}:{receiver}{WEBHOOK_PATH}",
        allowed_networks=(ip_network("127.0.0.0/8"),),
        webhook_schedule=(0.0, 1.0, 2.0, 4.0),
    )


async def _prove(prompt: str, folder: Path, settings: Settings, inbox: _Inbox) -> Proof:
    """Submit, watch, take the webhook, fetch the video and look at it. Raises CommandError."""
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
        client = Client(http, f"http://{HOST}:{settings.port}")
        with display(Console()) as shown:
            generation = await client.create({"prompt": prompt, "metadata": {"from": "demo"}}, str(uuid.uuid4()))
            shown.note(f"taken as {generation['id']}: {prompt!r}")
            generation = await wait_for(client, generation, shown, every=0.1)
        webhook = await inbox.received.get()
        if not webhook.valid:
            raise CommandError(f"a webhook came and does not verify: {webhook.problem}")
        if generation["status"] != "completed":
            raise CommandError(f"the webhook came and verifies, and there is no video: {failure_text(generation)}")
        video = await _fetch(http, generation["result"], folder / "video.mp4")
        timeline = await _delivered(client, generation["id"])
    return Proof(generation, timeline, webhook, video)


async def _fetch(http: httpx.AsyncClient, result: dict[str, Any], path: Path) -> Video:
    """The video by the link that the webhook carries, as a file that is checked. Raises CommandError."""
    response = await http.get(result["videoUrl"])
    if response.status_code != 200:
        raise CommandError(f"the video's URL answers {response.status_code}: {result['videoUrl']}")
    await asyncio.to_thread(path.write_bytes, response.content)
    try:
        return await asyncio.to_thread(probe, path)
    except InvalidMedia as error:
        raise CommandError(f"{path} is no playable video: {error}") from None


async def _delivered(client: Client, generation_id: str) -> dict[str, Any]:
    """The timeline, once the delivery that we have already seen is on record there."""
    while True:
        timeline = await client.timeline(generation_id)
        if any(delivery["state"] == "delivered" for delivery in timeline["deliveries"]):
            return timeline
        await asyncio.sleep(0.02)
