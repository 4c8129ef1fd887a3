"""Scheme `v1a`: a known vector, Node's own crypto and Python's on what we sign, and keys that are none."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tests.checkout import ROOT, blocks
from webhooks.ed25519 import InvalidKey, new_key_pair, public_of
from webhooks.signing import InvalidSecret, InvalidSignature, new_secret, parse_secret, sign, verify

NODE = shutil.which("node")
NOW = 1_763_800_006
PRIVATE = new_key_pair(lambda length: bytes(range(length)))
PUBLIC = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
VECTOR = "v1a,BHN5sbUiy2jNb+Qwn2qECpTGEZ/xD+lLWgj17xf5exe6+TZShRLD28CmrZDr71xPb4vHAHHSTBihii1qR3a4Cg=="
"""Of the seed 0..31, computed with Python's cryptography and checked with Node's."""
BODY = b'{"c":3}'
SECRET = new_secret(lambda length: bytes(range(length)))

VERIFY = """
const { createPublicKey, verify } = require("node:crypto");
const cases = JSON.parse(require("node:fs").readFileSync(0));
const good = cases.map(({ key, id, time, body, signature }) => {
  const x = Buffer.from(key.slice("whpk_".length), "base64").toString("base64url");
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const content = Buffer.concat([Buffer.from(`${id}.${time}.`), Buffer.from(body, "base64")]);
  return verify(null, content, publicKey, Buffer.from(signature.slice("v1a,".length), "base64"));
});
console.log(JSON.stringify(good));
"""


def signed(keys: list[str], body: bytes = BODY) -> dict[str, str]:
    return sign(keys, event_id="msg_08", timestamp=NOW, body=body)


def test_the_known_vector() -> None:
    assert public_of(PRIVATE) == PUBLIC
    assert signed([PRIVATE])["webhook-signature"] == VECTOR
    verify([PUBLIC], signed([PRIVATE]), BODY, now=NOW)


@given(st.binary(max_size=300))
def test_pythons_cryptography_accepts_what_we_sign(body: bytes) -> None:
    raw = base64.b64decode(public_of(PRIVATE).removeprefix("whpk_"))
    version, text = signed([PRIVATE], body)["webhook-signature"].split(",")
    content = f"msg_08.{NOW}.".encode() + body
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(text), content)
    assert version == "v1a"


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_nodes_crypto_accepts_what_we_sign_and_nothing_else() -> None:
    cases = []
    for number in range(50):
        key, body = new_key_pair(os.urandom), os.urandom(number)
        entry = signed([SECRET, key], body)["webhook-signature"].split(" ")[1]
        about = {"id": "msg_08", "time": NOW, "body": base64.b64encode(body).decode(), "signature": entry}
        cases.append({"key": public_of(key), **about})
    cases += [cases[0] | {"time": NOW + 1}, cases[0] | {"key": PUBLIC}]
    command = [str(NODE), "-e", VERIFY]
    done = subprocess.run(command, input=json.dumps(cases).encode(), capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout) == [True] * 50 + [False] * 2


ASK = """
import { genuine } from "./verify-v1a.mjs";
import { readFileSync } from "node:fs";
const cases = JSON.parse(readFileSync(0));
console.log(JSON.stringify(cases.map(([key, headers, body]) => genuine(key, headers, Buffer.from(body)))));
"""


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
def test_the_receiver_of_the_document_takes_what_we_sign_and_nothing_else(tmp_path: Path) -> None:
    (code,) = (block.text for block in blocks(ROOT / "docs" / "webhooks.md", "js") if "verify-v1a.mjs" in block.text)
    (tmp_path / "verify-v1a.mjs").write_text(code)
    (tmp_path / "ask.mjs").write_text(ASK)
    body, now = "Füße 🎬", int(time.time())
    headers = sign([SECRET, PRIVATE], event_id="msg_1", timestamp=now, body=body.encode())
    old = sign([PRIVATE], event_id="msg_1", timestamp=now - 400, body=body.encode())
    cases = [
        (PUBLIC, headers, body),
        (PUBLIC, headers, f"{body} "),
        (public_of(new_key_pair(os.urandom)), headers, body),
        (PUBLIC, old, body),
        (PUBLIC, headers | {"webhook-signature": headers["webhook-signature"].split(" ")[0]}, body),
        (PUBLIC, headers | {"webhook-signature": "v1a v1a, v1a,AAAA"}, body),
        (PUBLIC, {}, body),
    ]
    command = [str(NODE), str(tmp_path / "ask.mjs")]
    done = subprocess.run(command, input=json.dumps(cases).encode(), capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout) == [True] + [False] * 6


def test_both_schemes_at_once_and_each_is_enough() -> None:
    headers = signed([SECRET, PRIVATE])
    assert [entry.split(",")[0] for entry in headers["webhook-signature"].split(" ")] == ["v1", "v1a"]
    for known in ([SECRET], [PUBLIC], [new_secret(os.urandom), PUBLIC], [public_of(new_key_pair(os.urandom)), SECRET]):
        verify(known, headers, BODY, now=NOW)


def test_what_was_changed_or_signed_by_another_is_refused() -> None:
    for body, keys in ((BODY + b" ", [PUBLIC]), (BODY, [public_of(new_key_pair(os.urandom))])):
        with pytest.raises(InvalidSignature, match="does not match"):
            verify(keys, signed([PRIVATE]), body, now=NOW)
    with pytest.raises(InvalidSignature, match="no v1a entry"):
        verify([PUBLIC], signed([SECRET]), BODY, now=NOW)
    with pytest.raises(InvalidSignature, match="no v1 or v1a entry"):
        verify([SECRET, PUBLIC], signed([SECRET]) | {"webhook-signature": "v2,x"}, BODY, now=NOW)


@given(st.text(max_size=60))
def test_whatever_the_entry_holds_it_is_only_refused(text: str) -> None:
    with pytest.raises(InvalidSignature):
        verify([PUBLIC], signed([PRIVATE]) | {"webhook-signature": f"v1a,{text} v1a,"}, BODY, now=NOW)


def test_a_seed_alone_is_taken_too() -> None:
    seed = "whsk_" + base64.b64encode(bytes(range(32))).decode()
    assert public_of(seed) == PUBLIC


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "whsk_"),
        (SECRET, "whsk_"),
        (PUBLIC, "whsk_"),
        ("whsk_", "0 bytes"),
        ("whsk_" + base64.b64encode(bytes(33)).decode(), "33 bytes"),
        (PRIVATE[:-3], "not base64"),
        ("whsk_" + base64.b64encode(bytes(range(32)) + bytes(32)).decode(), "belong together"),
        ("whsk_ÄÖÜ", "not base64"),
    ],
)
def test_a_key_that_is_none_is_refused_without_being_told(key: str, problem: str) -> None:
    with pytest.raises(InvalidKey, match=problem) as caught:
        public_of(key)
    assert len(key) < 9 or key[6:] not in str(caught.value)


def test_a_public_key_of_another_length_and_a_pair_in_the_place_of_a_secret() -> None:
    with pytest.raises(InvalidKey, match="31 bytes"):
        verify(["whpk_" + base64.b64encode(bytes(31)).decode()], signed([PRIVATE]), BODY, now=NOW)
    with pytest.raises(InvalidSecret, match="asymmetric"):
        parse_secret(PRIVATE)


def test_a_pair_is_of_random_bytes() -> None:
    raw = base64.b64decode(new_key_pair(os.urandom).removeprefix("whsk_"))
    assert len(raw) == 64
    assert Ed25519PrivateKey.from_private_bytes(raw[:32]).public_key().public_bytes_raw() == raw[32:]
