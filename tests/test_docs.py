"""What the documents say is run: every command of the README, in its order, in a copy of the checkout."""

import json
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
from pathlib import Path

import pytest

from pipeline.api.problems import TITLES
from pipeline.lifecycle import GenerationStatus, Stage
from webhooks.events import EventType

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SERVERS = ("dailies serve", "dailies receive")


def blocks() -> list[str]:
    """The shell blocks of the README."""
    return re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    """Their commands, continued lines joined."""
    lines = "\n".join(blocks()).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_the_readme_names_the_two_commands_first():
    assert commands()[:2] == ["make demo", "make test"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git tracks (or would), with this environment in its place."""
    copy = tmp_path / "dailies"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (copy / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (copy / ".venv" / ".runtime").touch()
    return copy


@pytest.fixture
def moved(checkout: Path) -> tuple[Path, dict[str, str]]:
    """The checkout on free ports: (folder, port by the README's port)."""
    ports = {name: str(_free_port()) for name in ("8000", "8001", "3000")}
    example = checkout / ".env.example"
    text = example.read_text().replace("127.0.0.1:8001", f"127.0.0.1:{ports['8001']}")
    text += f"\nPORT={ports['8000']}\nWEBHOOK_URL=http://localhost:{ports['3000']}/api/webhooks/worker\n"
    example.write_text(text)
    return checkout, ports


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(command: str, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the README, ended by its own process id."""
    with log.open("wb") as out:
        process = subprocess.Popen(command.split(), cwd=folder, env=clean(), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def clean() -> dict[str, str]:
    """An environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=clean(), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_for(url: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.05)


def test_the_tour_works_as_written(moved, tmp_path):
    folder, ports = moved

    def local(command: str) -> str:
        for theirs, ours in ports.items():
            command = command.replace(f"localhost:{theirs}", f"localhost:{ours}")
        return command

    tour = [local(command) for command in commands() if not command.startswith("make")]
    first = tour.index("cp .env.example .env")
    run(tour[first], folder)
    servers = [command for command in tour if command.endswith(SERVERS)]
    assert len(servers) == 2
    with started(servers[0], folder, tmp_path / "serve.log"), started(servers[1], folder, tmp_path / "receive.log"):
        wait_for(f"http://localhost:{ports['8000']}/readyz")
        wait_for(f"http://localhost:{ports['3000']}/received")
        printed = {command: run(command, folder) for command in tour[first + 1 :] if command not in servers}
        assert "/content?token=" in next(text for command, text in printed.items() if "submit" in command)
        assert "202 Accepted" in next(text for command, text in printed.items() if "curl -i" in command)
        generation = json.loads(
            next(text for command, text in printed.items() if command.endswith("order-17") and "curl" in command)
        )
        assert generation["generationId"] == "order-17"
        assert "order-17" in next(text for command, text in printed.items() if "show" in command)
        assert run("bash -c '.venv/bin/dailies mock --faults'", folder).count("drop-submit") == 1
    assert "generation.completed" in (tmp_path / "receive.log").read_text()


def test_make_demo_ends_in_success(checkout):
    printed = run('make demo PROMPT="a paper boat"', checkout)
    assert "data/demo/video.mp4" in printed
    assert (checkout / "data" / "demo" / "video.mp4").stat().st_size > 10_000


@pytest.mark.parametrize("word", [*GenerationStatus, *Stage])
def test_the_readme_knows_every_status_and_stage(word):
    assert word in README


def test_the_settings_name_every_event():
    text = (ROOT / ".env.example").read_text()
    assert [kind for kind in EventType if kind not in text and kind != EventType.TEST] == []


def test_problem_codes_are_words():
    assert all(re.fullmatch(r"[a-z_]+", code) for code in TITLES)
