"""What the README says is run: every command, in its order, in a copy of the checkout."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.api.problems import TITLES
from pipeline.lifecycle import GenerationStatus, Stage
from tests.checkout import ROOT, SERVERS, Checkout, blocks, copy_checkout
from webhooks.events import EventType

README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    return [command for block in blocks(ROOT / "README.md", "sh") for command in block.commands]


def test_the_readme_names_the_two_commands_first():
    assert commands()[:2] == ["make demo", "make test"]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return copy_checkout(tmp_path / "dailies")


def test_the_tour_works_as_written(checkout, tmp_path):
    printed = {}
    with ExitStack() as stack:
        for command in commands():
            if command.endswith(SERVERS):
                stack.enter_context(checkout.started(command, tmp_path / f"{command.rpartition(' ')[2]}.log"))
            elif not command.startswith("make"):
                printed[command] = checkout.run(command)
        assert "/content?token=" in next(text for command, text in printed.items() if "submit" in command)
        assert "202 Accepted" in next(text for command, text in printed.items() if "curl -i" in command)
        generation = json.loads(
            next(text for command, text in printed.items() if command.endswith("order-17") and "curl" in command)
        )
        assert generation["generationId"] == "order-17"
        assert "order-17" in next(text for command, text in printed.items() if "show" in command)
        assert checkout.run(".venv/bin/dailies mock --faults").count("drop-submit") == 1
    assert "generation.completed" in (tmp_path / "receive.log").read_text()


def test_make_demo_ends_in_success(checkout):
    printed = checkout.run('make demo PROMPT="a paper boat"')
    assert "data/demo/video.mp4" in printed
    assert (checkout.folder / "data" / "demo" / "video.mp4").stat().st_size > 10_000


@pytest.mark.parametrize("word", [*GenerationStatus, *Stage])
def test_the_readme_knows_every_status_and_stage(word):
    assert word in README


def test_the_settings_name_every_event():
    text = (ROOT / ".env.example").read_text()
    assert [kind for kind in EventType if kind not in text and kind != EventType.TEST] == []


def test_problem_codes_are_words():
    assert all(re.fullmatch(r"[a-z_]+", code) for code in TITLES)
