"""schemathesis, set on a running service: whatever the document allows is taken, all else is refused, and nothing that
is answered is undocumented.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.api.openapi import OPERATIONS

ROOT = Path(__file__).parent.parent
HERE = ROOT / "tests" / "schemathesis"
KEY = "a-key-of-the-operator"
CHECKS = 14
"""All that this version of schemathesis has."""

UNREACHED = {"POST /callbacks/{provider}/{token}", "GET /openapi.json", "POST /api/generations/{id}/resolve"}
"""A provider's address is sealed, so that nobody can guess one; the document is read by schemathesis itself; and no
paid call goes wrong here."""


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """`dailies serve` with the mock, a key, and receivers that nobody answers at; its address."""
    port, mock, hook = (free_port() for _ in range(3))
    log = folder / "serve.log"
    env = os.environ | {
        "PORT": str(port),
        "API_KEY": KEY,
        "DATA_DIR": str(folder / "data"),
        "PROVIDER": "mock",
        "MOCK_URL": f"http://127.0.0.1:{mock}",
        "MOCK_SPEED": "200",
        "POLL_INTERVAL": "0.1",
        "ALLOWED_NETWORKS": "127.0.0.0/8",
        "WEBHOOK_URL": f"http://127.0.0.1:{hook}/hook",
        "WEBHOOK_HOSTS": "hooks.example.com",
        "WEBHOOK_SCHEDULE": "0,0.1",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "warning",
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "pipeline", "serve"], cwd=folder, env=env, stderr=out)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
            yield url
        finally:
            process.terminate()
            process.wait(20)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line for line in lines if line["level"] == "error" or line["event"] == "request.failed"] == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(good: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if good():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def furnish(url: str) -> None:
    """Generations that have ended in either way, and deliveries that are dead: what links have to lead to."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as api:
        for prompt in ["a fox", "[[fail:moderation]] a fox", "[[fail:moderation]] an owl"]:
            assert api.post("/api/generations", json={"prompt": prompt}).status_code == 202
        wait_until(lambda: len(api.get("/api/generations?status=completed,failed").json()["data"]) == 3)
        wait_until(lambda: len(api.get("/api/queue/dead").json()["data"]) == 3)


def run_schemathesis(url: str, folder: Path) -> list[dict[str, Any]]:
    """Every event of the run. Fails with what schemathesis says."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    options = ["--report", "ndjson", "--report-dir", str(folder / "report"), "--no-color"]
    command = [program, "--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/openapi.json", *options]
    env = os.environ | {"API_KEY": KEY, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    (report,) = (folder / "report").glob("*.ndjson")
    return [json.loads(line) for line in report.read_text().splitlines()]


@pytest.mark.xdist_group("alone")
def test_schemathesis_finds_nothing(tmp_path):
    with service(tmp_path) as url:
        furnish(url)
        events = run_schemathesis(url, tmp_path)

    scenarios = [event["ScenarioFinished"]["recorder"] for event in events if "ScenarioFinished" in event]
    checks = {check["name"] for s in scenarios for done in s.get("checks", {}).values() for check in done}
    assert len(checks) == CHECKS
    answers = Counter(answer for s in scenarios for answer in answers_of(s))
    assert sum(answers.values()) >= 1_000
    taken = {label for label, status, _ in answers if status < 400}
    assert taken == {f"{operation.method} {operation.path}" for operation in OPERATIONS} - UNREACHED
    assert sum(n for (label, status, _), n in answers.items() if (label, status) == ("POST /api/generations", 202)) > 30
    assert {code for _, _, code in answers if code} >= {
        "invalid_request",
        "invalid_parameter",
        "unauthorized",
        "not_redrivable",
    }


def answers_of(scenario: dict[str, Any]) -> Iterator[tuple[str, int, str | None]]:
    """(operation, status, problem code) of every request that was answered."""
    for name, case in scenario.get("cases", {}).items():
        answer = scenario["interactions"].get(name, {}).get("response")
        if answer:
            content = base64.b64decode((answer.get("content") or {}).get("$base64", ""))
            code = json.loads(content)["code"] if answer["status_code"] >= 400 and content[:1] == b"{" else None
            yield f"{case['value']['method']} {case['value']['path']}", answer["status_code"], code
