"""The restore is rehearsed: the commands of docs/operations.md, a backup while it runs, a machine that is lost."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.checkout import ROOT, Checkout, blocks, copy_checkout

BACKUP, RESTORE, API_ALONE = (
    block.commands for block in blocks(ROOT / "docs" / "operations.md", "sh") if block.heading == "Backup and restore"
)
ENDS = {"completed", "failed", "cancelled"}


@dataclass(frozen=True)
class Scene:
    """A checkout, and a provider elsewhere that keeps its accounts whatever becomes of our machine."""

    house: Checkout
    provider: str

    def charged(self) -> dict[str, int]:
        """How often the provider took an order, by prompt."""
        entries = httpx.get(f"{self.provider}/ledger").json()["entries"]
        return dict(Counter(entry["prompt"] for entry in entries))

    def order(self, *names: str) -> None:
        for name in names:
            body = {"prompt": name, "generationId": name}
            response = httpx.post(f"{self.house.api}/api/generations", json=body)
            assert response.status_code == 202, response.text

    def found(self, name: str) -> dict[str, Any]:
        generation: dict[str, Any] = httpx.get(f"{self.house.api}/api/generations/{name}", timeout=10).json()
        return generation

    def until(self, name: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while not good(seen := self.found(name)):
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen

    def ended(self, name: str) -> dict[str, Any]:
        return self.until(name, lambda seen: seen["status"] in ENDS)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A video takes the provider two seconds."""
    house = copy_checkout(tmp_path / "dailies")
    house.run("cp .env.example .env")
    provider = f"http://127.0.0.1:{house.ports['8001']}"
    with (house.folder / ".env").open("a") as file:
        file.write("MOCK_SPEED=15\nPOLL_INTERVAL=0.2\nLEASE=1\nWEBHOOK_URL=\n")
    command = f"DATA_DIR={tmp_path / 'provider'} .venv/bin/dailies mock"
    with house.started(command, tmp_path / "mock.log", url=f"{provider}/ledger"):
        yield Scene(house, provider)


def lose(house: Checkout, process: subprocess.Popen[bytes]) -> None:
    """The machine dies, with everything on its disk but the backup."""
    process.kill()
    process.wait(10)
    shutil.rmtree(house.folder / "data")


def test_work_goes_on_after_a_restore_and_nothing_is_paid_twice(scene, tmp_path):
    names = [f"order-{number}" for number in range(6)]
    with scene.house.started(".venv/bin/dailies serve", tmp_path / "first.log") as first:
        scene.order("early")
        done = scene.ended("early")
        scene.order(*names)
        for name in names:
            scene.until(name, lambda seen: seen["stage"] == "generating")
        for command in BACKUP:
            scene.house.run(command)
        lose(scene.house, first)

    *copy, start = RESTORE
    for command in copy:
        scene.house.run(command)
    with scene.house.started(start, tmp_path / "second.log"):
        for name in names:
            assert (scene.ended(name))["status"] == "completed", name
        again = scene.found("early")
        assert again["result"] == done["result"], "the same link: the secret came along"
        video = httpx.get(again["result"]["videoUrl"])
        assert video.content[4:8] == b"ftyp"
    assert scene.charged() == dict.fromkeys(["early", *names], 1)


def test_what_an_older_backup_does_not_know_is_paid_again_unless_it_is_cancelled_first(scene, tmp_path):
    with scene.house.started(".venv/bin/dailies api", tmp_path / "api.log"):
        scene.order("looked-at", "forgotten")
        for command in BACKUP:
            scene.house.run(command)
    with scene.house.started(".venv/bin/dailies serve", tmp_path / "first.log") as first:
        for name in ("looked-at", "forgotten"):
            assert (scene.ended(name))["status"] == "completed"
        lose(scene.house, first)

    *copy, start = RESTORE
    for command in copy:
        scene.house.run(command)
    with scene.house.started(API_ALONE[0], tmp_path / "alone.log"):
        assert (scene.found("looked-at"))["status"] == "queued"
        answer = httpx.post(f"{scene.house.api}/api/generations/looked-at/cancel")
        assert answer.json()["status"] == "cancelled"
    with scene.house.started(start, tmp_path / "second.log"):
        assert (scene.ended("forgotten"))["status"] == "completed"
        assert (scene.ended("looked-at"))["status"] == "cancelled"
    assert scene.charged() == {"looked-at": 1, "forgotten": 2}
