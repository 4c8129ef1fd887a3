"""docs/providers.md is true: its three commands per provider make a video at the mock, for the price that it tells."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from providers.base import Signed
from providers.catalogue import load_catalogue
from scripts.offers import REAL, capabilities_of, price, seconds
from tests.checkout import ROOT, Block, blocks, clean, free_port, wait_for
from tests.everyone import at_the_mock

DOCUMENT = ROOT / "docs" / "providers.md"
TEXT = DOCUMENT.read_text()
TRIALS = {block.heading: block for block in blocks(DOCUMENT, "sh") if block.heading in REAL}
DIALECTS = "Try the dialects without an account"
AT_ONCE = 4
"""Services that run beside each other: most of their time they wait for the provider's minimum between two looks."""
QUICK = {"ALLOWED_NETWORKS": "127.0.0.0/8,::1/128", "GENERATION_TIMEOUT": "4", "LOG_LEVEL": "warning"}


def section(name: str) -> str:
    return TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


# --- the commands ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mock:
    """The mock provider in a process of its own."""

    url: str

    def charged(self, prompt: str) -> list[tuple[str, int]]:
        """Who charged what for a prompt, in micro-USD."""
        entries = self.get(f"/ledger?prompt={prompt.replace(' ', '%20')}")["entries"]
        return [(entry["dialect"], entry["charged_micros"]) for entry in entries]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)


@contextmanager
def running(command: str, folder: Path, env: Mapping[str, str], url: str) -> Iterator[None]:
    """A command of a document that goes on until it is ended, once it answers."""
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(["bash", "-c", command], cwd=folder, env=dict(env), stdout=out, stderr=out)
    try:
        wait_for(url, log)
        yield
    finally:
        process.terminate()
        process.wait(20)


def place(folder: Path) -> Path:
    """An empty folder with this environment in it, as the commands want it."""
    (folder / ".venv").mkdir(parents=True)
    (folder / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    return folder


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    folder, port = place(tmp_path / "mock"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = f"exec .venv/bin/dailies mock --port {port} --speed 500"
    with running(command, folder, clean() | {"LOG_LEVEL": "warning"}, f"{url}/healthz"):
        yield Mock(url)


def environment(mock: Mock, folder: Path, port: int) -> dict[str, str]:
    """What makes the document's commands ask the mock: addresses, no keys."""
    given = at_the_mock(mock.url, folder)
    addresses = {name.upper(): str(value) for name, value in given.items() if name.endswith("_url")}
    rings = {"PORT": str(port), "PUBLIC_URL": f"http://localhost:{port}"}
    rings["OPENROUTER_WEBHOOK_SECRET"] = mock.get("/openrouter/webhook_secret")["secret"]
    return clean() | QUICK | addresses | rings


def tried(mock: Mock, folder: Path, block: Block) -> str:
    """What the third command prints, while the second runs under what the first one exports."""
    port = free_port()
    env = environment(mock, place(folder), port)
    gateway = env["OPENAI_VIDEOS_URL"]
    export, serve, submit = (line.replace("https://gateway.example/v1", gateway) for line in block.commands)
    with running(f"{export}; exec {serve}", folder, env, f"http://localhost:{port}/readyz"):
        return asked(submit, folder, env)


def asked(command: str, folder: Path, env: Mapping[str, str]) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=dict(env), capture_output=True, text=True, timeout=90, check=False
    )
    log = (folder / "server.log").read_text()
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{log}"
    return done.stdout


def test_three_commands_make_a_video_at_every_provider(mock: Mock, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in REAL}
    slow_first = sorted(REAL, key=lambda name: capabilities_of(name).callbacks is not Signed.NONE)
    prompts = {shlex.split(TRIALS[name].commands[2])[2] for name in REAL}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        texts = pool.map(lambda name: tried(mock, folders[name], TRIALS[name]), slow_first)
        printed = dict(zip(slow_first, texts, strict=True))
    for name, text in printed.items():
        assert "/content?token=" in text, name
        (video,) = (folders[name] / "data" / "files").rglob("*.mp4")
        assert video.read_bytes()[4:8] == b"ftyp", name
    (prompt,) = prompts
    assert sorted(mock.charged(prompt)) == sorted((name, told_cost(name)) for name in REAL)


def told_cost(name: str) -> int:
    """What a section says that its commands cost, in micro-USD."""
    (usd,) = re.findall(r"^Try it, for (\d+\.\d+) USD by ", section(name), re.MULTILINE)
    return round(float(usd) * 1_000_000)


def test_the_dialects_are_tried_as_written(tmp_path: Path) -> None:
    """Here the service starts the mock itself, as in development; only ports differ."""
    (block,) = (block for block in blocks(DOCUMENT, "sh") if block.heading == DIALECTS)
    folder, port, mock = place(tmp_path / "place"), free_port(), Mock(f"http://127.0.0.1:{free_port()}")
    env = clean() | {"PORT": str(port)}
    example = (ROOT / ".env.example").read_text()
    (folder / ".env").write_text(example.replace("http://127.0.0.1:8001", mock.url))
    local = [line.replace("http://127.0.0.1:8001", mock.url).replace(":8000", f":{port}") for line in block.commands]
    with running(f"{local[0]}; exec {local[1]}", folder, env, f"http://localhost:{port}/readyz"):
        asked(local[2], folder, env)
        assert [name for name, _ in mock.charged("a paper boat")] == ["replicate"]


# --- the words -------------------------------------------------------------------------------------------------------


def test_every_provider_has_its_section_and_three_commands() -> None:
    assert {name: len(TRIALS[name].commands) for name in REAL} == dict.fromkeys(REAL, 3)
    for name in REAL:
        export, serve, submit = TRIALS[name].commands
        assert export.startswith(f"export PROVIDER={name} ")
        assert serve == ".venv/bin/dailies serve"
        assert f" --provider {name} " in submit


@pytest.mark.parametrize("name", REAL)
def test_every_section_says_the_same_things(name: str) -> None:
    text = section(name)
    words = ("Settings", "Supported", "A lost answer", "Cancel", "Results", "Limits", "Uncertain (2026-11)")
    assert [word for word in words if f"\n- **{word}**: " not in text] == []
    assert f"<!-- made: models-{name} -->" in text


@pytest.mark.parametrize("name", REAL)
def test_the_words_are_those_of_the_declared_capabilities(name: str) -> None:
    can, text = capabilities_of(name), section(name)
    assert ("there is none" in text.partition("**Cancel**")[2].partition("\n")[0]) is not can.cancel
    assert ("cleared up by its callback" in text) is bool(can.recovery.callback_seconds)
    signers = re.findall(r"^\| `(\w+)` \| [^|]*\| [^|]* \|$", section("Callbacks"), re.MULTILINE)
    assert (name in signers) is (can.callbacks is Signed.SIGNED)


def test_the_settings_for_the_mock_are_complete(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(DOCUMENT, "ini") if block.heading == DIALECTS)
    given = dict(line.split("=", 1) for line in block.commands)
    everyone = at_the_mock("http://127.0.0.1:8001", tmp_path)
    wanted = {name.upper(): str(value) for name, value in everyone.items() if name.startswith(REAL)}
    assert set(given) == set(wanted)
    assert {name: given[name] for name in given if name.endswith("_URL")} == {
        name: wanted[name] for name in wanted if name.endswith("_URL")
    }


def test_places_inside_documents_are_there() -> None:
    for target, place in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", TEXT):
        text = (DOCUMENT.parent / target).read_text() if target else TEXT
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert place in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, place


def test_make_matrix_is_the_fault_matrix() -> None:
    done = subprocess.run(["make", "-n", "matrix"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/bin/python -m tests.matrix" in done.stdout.splitlines()


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durations", "text"),
    [
        ((), ""),
        ((4, 6, 8), "4, 6, 8"),
        (range(3, 16), "3-15"),
        ((5, 10), "5, 10"),
        ((1, 2, 4, 5, 6), "1, 2, 4-6"),
        ((8, 4), "4, 8"),
    ],
)
def test_lengths_are_written_by_their_ends(durations: Any, text: str) -> None:
    assert seconds(durations) == text


@pytest.mark.parametrize(
    ("micros", "text"), [(50_000, "0.05"), (400_000, "0.40"), (101_360, "0.10136"), (10_000_000, "10.00"), (0, "0.00")]
)
def test_prices_are_written_exactly(micros: int, text: str) -> None:
    assert price(micros) == text


@pytest.mark.parametrize("name", REAL)
def test_every_model_is_in_its_providers_table(name: str) -> None:
    assert [model for model in load_catalogue(name).models if f"| `{model}` |" not in section(name)] == []
