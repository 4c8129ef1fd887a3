"""docs/adding-a-provider.md is complete: the files that it names are there, for every provider."""

import re
from pathlib import Path

import pytest

from pipeline.config import Settings
from providers.mock.dialects import DIALECTS
from providers.registry import PROVIDERS

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "adding-a-provider.md").read_text()
REAL = [name for name in PROVIDERS if name != "mock"]
ADDED_LAST = "openai_videos"


def test_the_guide_is_about_a_provider_that_there_is():
    assert ADDED_LAST in REAL
    assert f'provider = "{ADDED_LAST}"' in GUIDE


@pytest.mark.parametrize("name", REAL)
def test_every_provider_has_the_files_of_the_guide(name):
    named = re.findall(r"^\| \d+ \| `([^`]*NAME[^`]*)`", GUIDE, re.MULTILINE)
    assert len(named) == 5
    assert [path for each in named if not (ROOT / (path := each.replace("NAME", name))).is_file()] == []


@pytest.mark.parametrize("name", REAL)
def test_every_provider_has_a_dialect_and_settings(name):
    assert name in DIALECTS
    assert any(setting.startswith(f"{name}_") for setting in Settings.model_fields)


@pytest.mark.parametrize("path", re.findall(r"`([\w/.-]+\.(?:py|toml|txt|example))`", GUIDE))
def test_every_file_that_the_guide_names_is_there(path):
    assert (ROOT / path.replace("NAME", ADDED_LAST)).is_file() or (ROOT / path).is_file()


def test_nothing_else_knows_the_last_provider_by_its_name():
    """The guide says so: settings, registry, dialects and its own files are all."""
    knowing = {
        str(path.relative_to(ROOT))
        for folder in ("pipeline", "providers", "webhooks")
        for path in (ROOT / folder).rglob("*.py")
        if ADDED_LAST in path.read_text()
    }
    assert knowing == {
        "pipeline/config.py",
        "providers/registry.py",
        f"providers/{ADDED_LAST}.py",
        "providers/mock/dialects/__init__.py",
        f"providers/mock/dialects/{ADDED_LAST}.py",
    }
