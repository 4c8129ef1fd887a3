"""`dailies drill` as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Settings
from tests.pipeline.engines import start_postgres

OURS = {name.upper() for name in Settings.model_fields}


def run(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    base = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "drill", *words],
        cwd=folder,
        env=base | settings,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_it_is_refused_where_money_is_spent(tmp_path):
    for provider in ({"PROVIDER": "fal"}, {}):
        done = run(tmp_path, **provider)
        assert done.returncode == 2
        assert "PROVIDER=mock" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_small_drill_holds_every_promise_and_leaves_nothing_behind(tmp_path):
    words = ("--generations", "8", "--kills", "2", "--workers", "1", "--seed", "3")
    done = run(tmp_path, *words, PROVIDER="mock", FAL_API_KEY="never-used")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing of yours is touched" in done.stdout
    assert re.search(r"\| SQLite +\| 8 ", done.stdout)
    assert "--seed 3\nevery promise held" in done.stdout
    assert list((tmp_path / "data" / "drill").iterdir()) == []


def test_who_may_make_no_database_is_told_so(tmp_path):
    server = start_postgres()
    try:
        server.admin("CREATE ROLE small LOGIN")
        url = f"postgresql://small@127.0.0.1:{server.port}/postgres"
        done = run(tmp_path, PROVIDER="mock", DATABASE_URL=url)
    finally:
        server.stop()
    assert done.returncode == 2
    assert "ALTER ROLE small CREATEDB" in done.stderr
    assert list((tmp_path / "data" / "drill").iterdir()) == []


def test_a_server_that_is_not_there_is_not_taken_for_one_that_forbids(tmp_path):
    done = run(tmp_path, PROVIDER="mock", DATABASE_URL="postgresql://u:hidden-word@127.0.0.1:1/x")
    assert done.returncode == 2
    assert "refused" in done.stderr
    assert "CREATEDB" not in done.stderr
    assert "hidden-word" not in done.stderr + done.stdout
    assert list((tmp_path / "data" / "drill").iterdir()) == []


@pytest.mark.parametrize("words", [("--generations", "0"), ("--recovery", "magic")])
def test_what_cannot_be_is_refused(tmp_path, words):
    assert run(tmp_path, *words, PROVIDER="mock").returncode == 2
