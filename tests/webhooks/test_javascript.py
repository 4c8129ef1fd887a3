"""The official JavaScript library reads what we sign, and we read what it signs. One node process for all cases."""

import base64
import json
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from webhooks.events import build_body
from webhooks.signing import new_secret, sign, verify

HERE = Path(__file__).parent / "js"
NODE = shutil.which("node")
SEED = random.Random(7)
ALPHABET = 'aZ09 "\\/\n\t\x00\x7f\u2028\ufeffüß猫🎬'

pytestmark = pytest.mark.skipif(
    NODE is None or not (HERE / "node_modules" / "standardwebhooks").is_dir(),
    reason="needs Node.js and its packages: npm ci --prefix tests/webhooks/js",
)


def text(length: int) -> str:
    return "".join(SEED.choices(ALPHABET, k=length))


def event(number: int) -> bytes:
    generation = {
        "id": f"gen_{number}",
        "status": "completed",
        "prompt": text(number % 60),
        "progress": SEED.choice([0.0, 100.0, 33.3, 1e16, 1.2345678901234567e20]),
        "result": {"videoUrl": "https://cdn.example/v.mp4", "duration": 8.0, "processingTime": 61234.0},
        "metadata": {text(4) + "k": text(9)},
    }
    return build_body(type="generation.completed", occurred_at=time.time(), generation=generation, run=1, sequence=1)


def ask(**cases: list[dict[str, Any]]) -> dict[str, Any]:
    assert NODE is not None
    command = [NODE, str(HERE / "verify.mjs")]
    done = subprocess.run(command, input=json.dumps(cases).encode(), capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_both_sides_agree_on_many_cases() -> None:
    now = int(time.time())
    ours, theirs = [], []
    for number in range(200):
        secret = "whsec_" + base64.b64encode(SEED.randbytes(SEED.randint(24, 64))).decode()
        body = event(number)
        live = [new_secret(SEED.randbytes), secret] if number % 2 else [secret]
        headers = sign(live, event_id=f"evt_{number}", timestamp=now, body=body)
        ours.append({"secret": secret, "headers": headers, "body": body.decode()})
        theirs.append({"secret": secret, "id": f"evt_{number}", "timestamp": now, "body": body.decode()})
    changed = {**ours[0], "body": ours[0]["body"] + " "}
    stale = sign([ours[0]["secret"]], event_id="evt_0", timestamp=now - 301, body=ours[0]["body"].encode())

    answer = ask(verify=[*ours, changed, {**ours[0], "headers": stale}], sign=theirs)

    assert answer["verified"][:200] == [{"ok": True, "same": True}] * 200  # same: re-serialised to the very same bytes
    assert [result["ok"] for result in answer["verified"][200:]] == [False, False]
    for case, signature in zip(theirs, answer["signed"], strict=True):
        headers = {"webhook-id": case["id"], "webhook-timestamp": str(now), "webhook-signature": signature}
        verify([case["secret"]], headers, case["body"].encode(), now=now)
