"""The TypeScript client: its types are the document's, it compiles strictly, and it works over a bad network."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.api.openapi import document
from tests.house import open_house

CLIENT = Path(__file__).parent.parent / "clients" / "typescript"
TOOLS = CLIENT / "node_modules" / ".bin"
KEY = "a-key-of-the-operator"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        shutil.which("node") is None or not (TOOLS / "tsc").exists(),
        reason="needs Node.js 20 and the client's packages: npm ci --prefix clients/typescript",
    ),
]


def run(*command: str, given: bytes = b"") -> None:
    done = subprocess.run(command, cwd=CLIENT, input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_types_are_those_of_the_document(tmp_path):
    generate = json.loads((CLIENT / "package.json").read_text())["scripts"]["generate"]
    options = shlex.split(generate.partition(" openapi-typescript ")[2].partition("--output")[0])
    made = tmp_path / "schema.d.ts"
    run(str(TOOLS / "openapi-typescript"), *options, "--output", str(made), given=json.dumps(document()).encode())
    kept = (CLIENT / "src" / "schema.d.ts").read_text()
    assert made.read_text() == kept, "run `npm run generate --prefix clients/typescript`"


def test_what_the_readme_shows_compiles(tmp_path):
    shown = re.findall(r"```ts\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    assert len(shown) == 2
    for number, code in enumerate(shown):
        (tmp_path / f"shown{number}.ts").write_text(code.replace('"dailies-client"', f'"{CLIENT}/src/index.js"'))
    settings = json.loads((CLIENT / "tsconfig.json").read_text())["compilerOptions"]
    settings |= {"rootDir": "/", "noEmit": True, "typeRoots": [str(CLIENT / "node_modules" / "@types")]}
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "include": ["*.ts"]}))
    run(str(TOOLS / "tsc"), "--project", str(tmp_path))


async def test_it_compiles_and_works_over_a_bad_network(tmp_path):
    await asyncio.to_thread(run, str(TOOLS / "tsc"))
    async with open_house(tmp_path, api_key=KEY, speed=30.0) as house:
        house.api.headers["Authorization"] = f"Bearer {KEY}"
        await house.submit("for its webhook")
        (hook,) = await house.webhooks(1)
        webhook = {
            "secret": house.plant.secrets.webhook[0],
            "body": hook.body.decode(),
            "headers": dict(hook.headers),
        }
        told = await journey(house.plant.settings.port, WEBHOOK=json.dumps(webhook))
        ledger = await house.ledger()

    assert told["lost"] == ["POST", "stream", "DELETE"]
    assert len(ledger) == 2  # one for the webhook, one for the journey: its lost answer paid for nothing twice
    assert told["status"] == "completed"
    assert told["videoUrl"].startswith("http")
    assert told["lines"][0] == "queued"
    assert told["lines"][-1] == "completed"
    assert told["ids"] == sorted(set(told["ids"]))
    assert told["last"] == {"type": "end", "status": "completed"}
    assert told["id"] in told["listed"]
    assert "?token=" in told["eventsUrl"]
    assert told["same"] is True
    assert told["webhook"] == json.loads(hook.body)["data"]["result"]["videoUrl"]
    assert told["codes"] == {
        "byPage": "unauthorized",
        "missing": "not_found",
        "typo": "invalid_request",
        "duration": "invalid_request",
        "gone": "gone",
    }


async def journey(port: int, **more: str) -> dict[str, Any]:
    env = os.environ | {"DAILIES_URL": f"http://127.0.0.1:{port}", "DAILIES_KEY": KEY} | more
    program = str(CLIENT / "build" / "test" / "journey.js")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", program, env=env, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    told: dict[str, Any] = json.loads(out)
    return told
