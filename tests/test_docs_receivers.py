"""The receivers of docs/webhooks.md, run as they are written: what is ours is taken, once, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.checkout import ROOT, blocks, free_port
from webhooks.events import MAX_BODY
from webhooks.signing import new_secret, sign

PAGE = ROOT / "docs" / "webhooks.md"
NODE = shutil.which("node")
PACKAGES = ROOT / "tests" / "webhooks" / "js" / "node_modules"
needs_node = pytest.mark.skipif(
    NODE is None or not (PACKAGES / "express").is_dir(),
    reason="needs Node.js and its packages: npm ci --prefix tests/webhooks/js",
)
SECRET = new_secret(lambda count: b"k" * count)
OTHER = new_secret(lambda count: b"o" * count)
BODY = json.dumps(
    {"type": "generation.completed", "generationId": "Füße 🎬", "result": {"videoUrl": "https://x"}, "error": None},
    ensure_ascii=False,
).encode()
PRINTED = "generation.completed Füße 🎬 https://x"


def code(first_line: str) -> str:
    (found,) = (block.text for block in blocks(PAGE) if block.text.startswith(f"{first_line}\n"))
    return found


def signed(*secrets: str, event_id: str = "evt_1", age: int = 0, body: bytes = BODY) -> dict[str, str]:
    made = sign(secrets or (SECRET,), event_id=event_id, timestamp=int(time.time()) - age, body=body)
    return {"content-type": "application/json", **made}


Ask = tuple[dict[str, str], bytes, int]


def asks() -> list[Ask]:
    """Requests in their order, each with the status that it has to get."""
    good = signed()
    without = {name: value for name, value in good.items() if name != "webhook-id"}
    return [
        (good, BODY, 204),
        (good, BODY, 204),
        (signed(), BODY, 204),
        (signed(OTHER, SECRET, event_id="evt_2"), BODY, 204),
        (good | {"webhook-signature": f"v1a,AAAA {good['webhook-signature']} v2,x"}, BODY, 204),
        (good, BODY + b" ", 401),
        (good, b"", 401),
        (good, json.dumps(json.loads(BODY)).encode(), 401),
        (signed(OTHER), BODY, 401),
        (signed(age=400), BODY, 401),
        (signed(age=-400), BODY, 401),
        (without, BODY, 401),
        ({}, BODY, 401),
        (good | {"webhook-signature": ""}, BODY, 401),
        (good | {"webhook-signature": "v1,%%%"}, BODY, 401),
        (good | {"webhook-timestamp": "yesterday"}, BODY, 401),
    ]


HEARD = [PRINTED, PRINTED]
"""Two events: evt_1, however often it came, and evt_2."""


def held(post: Callable[[dict[str, str], bytes], int]) -> None:
    """Ask everything, and hold the answers against what they have to be."""
    wanted = asks()
    given = [post(headers, body) for headers, body, _ in wanted]
    assert given == [status for _, _, status in wanted]


# --- Next.js: plain functions of Request and Response -----------------------------------------------------------------

DRIVER = """
import { readFileSync } from "node:fs";
import { POST } from "./route.js";
const statuses = [];
for (const [headers, body] of JSON.parse(readFileSync(0, "utf8"))) {
  const request = new Request("https://app.example/hook", { method: "POST", headers, body });
  statuses.push((await POST(request)).status);
}
console.error(JSON.stringify(statuses));
"""


@needs_node
@pytest.mark.parametrize("name", ["", ", without a package"])
def test_the_routes_for_next_take_what_is_ours_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "route.js").write_text(code(f"// app/api/webhooks/worker/route.js{name}"))
    (tmp_path / "driver.js").write_text(DRIVER)
    wanted = asks()
    done = subprocess.run(
        [str(NODE), "driver.js"],
        cwd=tmp_path,
        env={"WEBHOOK_SECRET": SECRET},
        input=json.dumps([[headers, body.decode()] for headers, body, _ in wanted]).encode(),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(done.stderr) == [status for _, _, status in wanted]
    assert done.stdout.decode().splitlines() == HEARD


@needs_node
@pytest.mark.parametrize("name", ["", ", without a package"])
def test_the_routes_for_next_can_be_built_without_a_secret(name: str, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "route.js").write_text(code(f"// app/api/webhooks/worker/route.js{name}"))
    command = [str(NODE), "--input-type=module", "-e", "await import('./route.js')"]
    subprocess.run(command, cwd=tmp_path, env={}, check=True, timeout=30)


# --- servers ---------------------------------------------------------------------------------------------------------


@contextmanager
def running(*command: str, folder: Path, port: int | None = None) -> Iterator[tuple[str, Path]]:
    """A server's URL, and the file of what it prints; without a port it prints its own first."""
    log = folder / "log.txt"
    env = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": SECRET, "PORT": "0", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 20
        while True:
            found = port or next((int(line) for line in log.read_text().splitlines() if line.isdigit()), None)
            if found and answers(f"http://127.0.0.1:{found}/api/webhooks/worker"):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{found}/api/webhooks/worker", log
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.post(url, content=b"", timeout=5).status_code == 401
    except httpx.TransportError:
        return False


def tried(*command: str, folder: Path, port: int | None = None) -> None:
    with running(*command, folder=folder, port=port) as (url, log), httpx.Client(timeout=10) as client:
        held(lambda headers, body: client.post(url, headers=headers, content=body).status_code)
        body = BODY[:-1] + b',"data":"' + b"y" * (MAX_BODY - len(BODY) - 10) + b'"}'
        headers = signed(event_id="evt_3", body=body)
        assert client.post(url, headers=headers, content=body).status_code == 204
    assert [line for line in log.read_text().splitlines() if line.startswith("generation.")] == [*HEARD, PRINTED]


@needs_node
def test_the_receiver_in_express_takes_what_is_ours_once(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "express.mjs").write_text(code("// express.mjs"))
    tried(str(NODE), "express.mjs", folder=tmp_path)


@needs_node
def test_the_receiver_in_plain_node_takes_what_is_ours_once(tmp_path: Path) -> None:
    (tmp_path / "receiver.mjs").write_text(code("// receiver.mjs"))
    tried(str(NODE), "receiver.mjs", folder=tmp_path)


def test_the_receiver_in_fastapi_takes_what_is_ours_once(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    (tmp_path / "receiver.py").write_text(code("# receiver.py"))
    port = free_port()
    uvicorn = (sys.executable, "-m", "uvicorn", "receiver:app", "--port", str(port), "--no-access-log")
    tried(*uvicorn, folder=tmp_path, port=port)


def test_the_function_for_any_other_framework_takes_what_is_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    space: dict[str, Callable[[dict[str, str], bytes], int]] = {}
    (text,) = (block.text for block in blocks(PAGE, "python") if "def receive(" in block.text)
    exec(text, space)  # type: ignore[arg-type] # the functions of the page
    held(space["receive"])
    assert set(capsys.readouterr().out.splitlines()) == {"generation.completed Füße 🎬"}
