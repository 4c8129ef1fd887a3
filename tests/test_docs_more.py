"""What docs/ says is true: commands run in a copy of the checkout, code runs, tables are those of the code."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from pipeline import ledger
from pipeline.config import Settings
from pipeline.db import Database, Tx
from pipeline.db.migrate import migrate
from pipeline.lifecycle import JobStatus, SubmissionOutcome
from providers.base import ErrorCode, Operation, ProviderError, Recovery
from tests.checkout import ROOT, SERVERS, Checkout, blocks, copy_checkout

DOCS = sorted((ROOT / "docs").glob("*.md"))
NODE = shutil.which("node")
PACKAGES = ROOT / "tests" / "webhooks" / "js" / "node_modules"
needs_node = pytest.mark.skipif(
    NODE is None or not PACKAGES.is_dir(), reason="needs Node.js and its packages: npm ci --prefix tests/webhooks/js"
)
ORDERED = {"webhooks.md": "order-18", "operations.md": "order-17"}
"""What a document speaks of that another ordered."""
REHEARSED = "Backup and restore"
"""Run by tests/test_restore.py."""
REFUSED = '"promt"'
"""A command whose request is to be refused."""

ELSEWHERE = "providers.md"
"""Its commands start a service each, and are run by tests/test_docs_providers.py."""

WITH_COMMANDS = [path for path in DOCS if blocks(path, "sh") and path.name != ELSEWHERE]
documents = pytest.mark.parametrize("path", DOCS, ids=[path.name for path in DOCS])


def maker() -> ModuleType:
    """scripts/docs.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_maker", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@documents
def test_the_made_parts_are_those_of_the_code(path: Path) -> None:
    assert maker().remade(path.read_text()) == path.read_text(), "run .venv/bin/python scripts/docs.py"


@documents
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_document_is_found_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in DOCS if f"docs/{path.name}" not in text] == []


@documents
def test_every_block_is_of_a_kind_that_is_tried(path: Path) -> None:
    known = {"sh", "json", "js", "python", "mermaid", "ini", "yaml"}
    assert {block.language for block in blocks(path)} <= known


@documents
def test_json_is_json_and_settings_are_settings(path: Path) -> None:
    for block in blocks(path, "json"):
        json.loads(block.text)
    for block in blocks(path, "ini"):
        names = [line.partition("=")[0].lower() for line in block.commands]
        assert set(names) <= set(Settings.model_fields), names


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=[path.name for path in WITH_COMMANDS])
def test_commands_work_as_written_and_in_their_order(path: Path, tmp_path: Path) -> None:
    if any("openssl" in block.text for block in blocks(path, "sh")) and shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (Debian: apt install openssl)")
    commands = [line for block in blocks(path, "sh") if block.heading != REHEARSED for line in block.commands]
    with ExitStack() as stack:
        house = prepare(path.name, commands, tmp_path, stack)
        for command in commands:
            if command.endswith(SERVERS):
                log = tmp_path / f"{command.rpartition(' ')[2]}.log"
                stack.enter_context(house.started(command, log))
            elif REFUSED in command:
                refused(house, command, path)
            else:
                house.run(command)


def prepare(name: str, commands: list[str], folder: Path, stack: ExitStack) -> Checkout:
    """The copy; a document that starts nothing finds the service running, and what it speaks of ordered."""
    house = copy_checkout(folder / "dailies")
    if "cp .env.example .env" not in commands:
        house.run("cp .env.example .env")
    if not any(command.endswith("dailies serve") for command in commands):
        if name == "settings.md":
            return house
        stack.enter_context(house.started(".venv/bin/dailies serve", folder / "serve.log"))
    if name in ORDERED:
        ask = {"prompt": "a fox", "generationId": ORDERED[name]}
        assert httpx.post(f"{house.api}/api/generations", json=ask).status_code == 202
    return house


def refused(house: Checkout, command: str, path: Path) -> None:
    """The answer is the one that the document shows."""
    done = subprocess.run(["bash", "-c", house.local(command)], capture_output=True, text=True, check=True)
    shown = next(json.loads(block.text) for block in blocks(path, "json") if "promt" in block.text)
    answer = json.loads(done.stdout)
    assert {**answer, "requestId": None} == {**shown, "requestId": None}


# --- code ------------------------------------------------------------------------------------------------------------


@needs_node
@documents
def test_javascript_compiles(path: Path, tmp_path: Path) -> None:
    for block in blocks(path, "js"):
        (tmp_path / "code.mjs").write_text(block.text)
        done = subprocess.run(
            [str(NODE), "--check", tmp_path / "code.mjs"], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, done.stderr


@documents
def test_python_compiles(path: Path) -> None:
    for block in blocks(path, "python"):
        compile(block.text, str(path), "exec")


def test_every_unit_of_systemd_is_valid(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    units = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
    assert len(units) == 3
    for unit in units:
        here = tmp_path / unit.name.replace("@.", "@1.")
        text = unit.read_text()
        assert "/opt/dailies/.venv/bin/dailies" in text
        here.write_text(text.replace("/opt/dailies/.venv", sys.prefix).replace("/opt/dailies", str(ROOT)))
        done = subprocess.run([program, "verify", here], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), unit.name


def test_every_alert_has_its_mend() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    text = (ROOT / "docs" / "operations.md").read_text()
    assert re.findall(r"^\| `(Dailies\w+)`", text, re.MULTILINE) == re.findall(r"alert: (\w+)", rules)


# --- pictures --------------------------------------------------------------------------------------------------------

PICTURES = ROOT / "docs" / "state-machine.md"
EDGE = re.compile(r"^ +(\w+|\[\*\]) --> (\w+|\[\*\])", re.MULTILINE)


def drawn(heading: str) -> set[tuple[str, str]]:
    (picture,) = (block for block in blocks(PICTURES, "mermaid") if block.heading == heading)
    return set(EDGE.findall(picture.text))


def test_the_pictures_know_every_status() -> None:
    for heading, words in (("A job", JobStatus), ("A submission", SubmissionOutcome)):
        assert {word for edge in drawn(heading) for word in edge} == {"[*]", *words}


TOKEN = "sub_1"
GENERATION = dict.fromkeys(("user_id", "model")) | {"id": "gen_1", "tenant_id": "default", "run": 1, "provider": "mock"}
ERROR = ProviderError(ErrorCode.TRANSIENT, "x")


def second(tx: Tx) -> None:
    """The answer comes after all, beside a later call."""
    row = tx.one("SELECT * FROM submission")
    if row["outcome"] in {"rejected", "abandoned"}:
        ledger.intend(tx, GENERATION, token="sub_2", estimate_micros=1, recovery=Recovery())
        ledger.accept(tx, TOKEN, Operation("op-1", {}))
        ledger.close_second(tx, TOKEN, "op-1", ERROR)
        tx.run("DELETE FROM submission WHERE token <> :token", {"token": TOKEN})


DEEDS = {
    "second": second,
    "accept": lambda tx: ledger.accept(tx, TOKEN, Operation("op-1", {})),
    "reject": lambda tx: ledger.reject(tx, TOKEN, ERROR),
    "unknown": lambda tx: ledger.mark_unknown(tx, TOKEN, ERROR, answered=True),
    "abandon": lambda tx: ledger.abandon(tx, TOKEN, ERROR),
    "succeed": lambda tx: ledger.succeed(tx, TOKEN, None),
    "fail": lambda tx: ledger.fail(tx, TOKEN, ERROR),
    "reopen": lambda tx: ledger.reopen(tx, TOKEN),
    "supersede": lambda tx: ledger.supersede(tx, tx.one("SELECT * FROM submission")),
}
"""Everything that the ledger can do to a submission that was intended."""


def test_the_picture_of_a_submission_is_what_the_ledger_does(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(db.engine)
    try:
        assert asyncio.run(explored(db)) == {edge for edge in drawn("A submission") if "[*]" not in edge}
    finally:
        db.close()


async def explored(db: Database) -> set[tuple[str, str]]:
    """Every move that one deed can bring about, from every outcome that deeds can lead to."""
    edges: set[tuple[str, str]] = set()
    ways: dict[str, list[str]] = {"intended": []}
    todo = ["intended"]
    while todo:
        start = todo.pop()
        for deed in DEEDS:
            found = await db.write(lambda tx, way=[*ways[start], deed]: outcome(tx, way))
            if found != start:
                edges.add((start, found))
            if found not in ways:
                ways[found] = [*ways[start], deed]
                todo.append(found)
    return edges


def outcome(tx: Tx, way: list[str]) -> str:
    tx.run("DELETE FROM submission")
    ledger.intend(tx, GENERATION, token=TOKEN, estimate_micros=1, recovery=Recovery())
    for deed in way:
        DEEDS[deed](tx)
    return str(tx.value("SELECT outcome FROM submission"))
