"""What is wrong with a request is found and named: each mistake that receivers make, and that it is the only one."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.diagnosis import Diagnosis, Dump, UnreadableDump, diagnose, read_dump
from webhooks.diagnosis.search import Known
from webhooks.ed25519 import new_key_pair, public_of
from webhooks.signing import new_secret, sign

SECRET = new_secret(lambda count: bytes(range(1, count + 1)))
OTHER = new_secret(lambda count: b"o" * count)
PAIR = new_key_pair(lambda count: b"p" * count)
NOW = 1_763_800_000
BODY = json.dumps(
    {"type": "generation.completed", "data": {"prompt": "Füße 猫\n🎬 / é", "n": 8, "list": []}},
    separators=(",", ":"),
    ensure_ascii=False,
).encode()

USED = [Known(SECRET, "--secret")]


def raw(body: bytes = BODY, *, secrets: tuple[str, ...] = (SECRET,), **headers: str | None) -> bytes:
    """A request as a file; a header that is None is left out."""
    made: dict[str, str | None] = {**sign(secrets, event_id="evt_1", timestamp=NOW, body=BODY)}
    made |= {f"webhook-{name}": value for name, value in headers.items()}
    lines = [f"{name}: {value}\r\n" for name, value in made.items() if value is not None]
    return ("POST /hook HTTP/1.1\r\nHost: x\r\n" + "".join(lines) + "\r\n").encode() + body


def examined(dump: bytes, secret: str = SECRET, *, now: float = NOW + 3.0) -> Diagnosis:
    return diagnose(read_dump(dump), [Known(secret, "--secret")], now=now)


def told(diagnosis: Diagnosis, part: str) -> str:
    return next(finding.detail for finding in diagnosis.findings if finding.part == part)


def test_what_is_right_is_right_in_every_part() -> None:
    diagnosis = examined(raw())
    assert diagnosis.verifies, diagnosis
    assert diagnosis.wrong == ()


def by_hand(key: bytes, content: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


CONTENT = f"evt_1.{NOW}.".encode() + BODY
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
VALUE = json.loads(BODY)
GOOD = by_hand(KEY, CONTENT)

MISTAKES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "a new line at the end": (lambda: raw(BODY + b"\n"), "body", "line ends were added"),
    "white space around": (lambda: raw(b"  " + BODY + b" \t"), "body", "white space was added"),
    "JSON.stringify of a spaced body": (
        lambda: raw(json.dumps(VALUE, ensure_ascii=False).encode()),
        "body",
        "parsed and written again",
    ),
    "json.dumps": (lambda: raw(json.dumps(VALUE).encode()), "body", "parsed and written again"),
    "json.dumps with indents": (lambda: raw(json.dumps(VALUE, indent=2).encode()), "body", "parsed and written again"),
    "a float made of an integer": (lambda: raw(BODY.replace(b'"n":8', b'"n":8.0')), "body", "parsed and written"),
    "CRLF": (lambda: raw(b"{\r\n}", signature=by_hand(KEY, f"evt_1.{NOW}.{{\n}}".encode())), "body", "CRLF"),
    "LF": (lambda: raw(b"{\n}", signature=by_hand(KEY, f"evt_1.{NOW}.{{\r\n}}".encode())), "body", "CRLF"),
    "a mark before it": (lambda: raw(b"\xef\xbb\xbf" + BODY), "body", "byte order mark was put"),
    "read as latin-1": (lambda: raw(BODY.decode("latin-1").encode()), "body", "another charset"),
    "base64 of a gateway": (lambda: raw(base64.b64encode(BODY)), "body", "base64"),
    "stringified twice": (lambda: raw(json.dumps(BODY.decode()).encode()), "body", "stringified twice"),
    "no body": (lambda: raw(b""), "body", "has none"),
    "no id": (lambda: raw(id=None), "id", "missing"),
    "no timestamp": (lambda: raw(timestamp=None), "timestamp", "missing"),
    "no signature": (lambda: raw(signature=None), "signature", "missing"),
    "an empty id": (lambda: raw(id=""), "id", "missing"),
    "milliseconds": (lambda: raw(timestamp=f"{NOW}000"), "timestamp", "milliseconds"),
    "words": (lambda: raw(timestamp="yesterday"), "timestamp", "not whole seconds"),
    "the id left out": (lambda: raw(signature=by_hand(KEY, f"{NOW}.".encode() + BODY)), "id", "left out"),
    "only the body": (lambda: raw(signature=by_hand(KEY, BODY)), "id", "only the body was signed"),
    "the time left out": (lambda: raw(signature=by_hand(KEY, b"evt_1." + BODY)), "timestamp", "left out"),
    "the text as key": (lambda: raw(signature=by_hand(SECRET.encode(), CONTENT)), "key", "whole text"),
    "not decoded": (lambda: raw(signature=by_hand(SECRET[6:].encode(), CONTENT)), "key", "decoded as base64"),
    "hex": (
        lambda: raw(signature="v1," + hmac.digest(KEY, CONTENT, "sha256").hex()),
        "signature",
        "in hex",
    ),
    "no version": (lambda: raw(signature=GOOD.removeprefix("v1,")), "signature", "v1,BASE64"),
    "another version": (lambda: raw(signature="v1a,AAAA"), "signature", "whpk_"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_named_and_no_other(mistake: str) -> None:
    make, part, words = MISTAKES[mistake]
    diagnosis = examined(make())
    assert not diagnosis.verifies
    assert diagnosis.wrong == (part,), diagnosis
    assert words in told(diagnosis, part)


def test_two_mistakes_are_both_named() -> None:
    body = json.dumps(VALUE).encode()
    diagnosis = examined(raw(body, signature=by_hand(SECRET.encode(), CONTENT)))
    assert diagnosis.wrong == ("key", "body")


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (f" {SECRET}\n", "white space"),
        (f'"{SECRET}"', "quotes"),
        (SECRET + "\\n", "line's end"),
        ("whsk_" + SECRET[6:], "private key"),
        ("whpk_" + SECRET[6:], "public key"),
        ("sk_live_123", "API key"),
        (SECRET[:20], "cut short"),
        ("whsec_" + base64.b64encode(SECRET[6:].encode()).decode(), "twice"),
        ("", "0 bytes"),
    ],
)
def test_what_is_wrong_with_the_secret_is_named_and_never_shown(secret: str, words: str) -> None:
    diagnosis = examined(raw(), secret)
    assert "key" in diagnosis.wrong
    assert words in told(diagnosis, "key")
    assert SECRET[6:] not in str(diagnosis)


def test_the_services_own_secret_shows_that_the_receiver_has_another() -> None:
    diagnosis = diagnose(read_dump(raw()), [Known(OTHER, "--secret")], [Known(SECRET, "WEBHOOK_SECRET")], now=NOW)
    assert diagnosis.wrong == ("key",)
    assert "WEBHOOK_SECRET" in told(diagnosis, "key")


def test_nothing_that_fits_is_told_as_such() -> None:
    diagnosis = examined(raw(BODY.replace(b"8", b"9")))
    assert (diagnosis.verifies, diagnosis.wrong) == (False, ())
    assert "another secret" in told(diagnosis, "key")


@pytest.mark.parametrize(
    ("age", "words"),
    [(301, "5 minutes old"), (7200, "2 hours old"), (-400, "7 minutes in the future"), (9e5, "10 days")],
)
def test_a_clock_is_named(age: float, words: str) -> None:
    diagnosis = examined(raw(), now=NOW + age)
    assert diagnosis.wrong == ("timestamp",)
    assert words in told(diagnosis, "timestamp")


def test_one_of_several_signatures_is_enough_and_counted() -> None:
    diagnosis = examined(raw(secrets=(OTHER, SECRET, PAIR)))
    assert diagnosis.verifies
    assert "entry 2 of 3 fits; 2 other entries" in told(diagnosis, "signature")
    joined = f"v1,{'A' * 43}=, {GOOD}"
    assert examined(raw(signature=joined)).verifies


def test_a_public_key_is_used_for_v1a() -> None:
    public = public_of(PAIR)
    assert examined(raw(secrets=(SECRET, PAIR)), public).verifies
    assert examined(raw(BODY + b"\n", secrets=(PAIR,)), public).wrong == ("body",)
    assert "private key" in told(examined(raw(secrets=(PAIR,)), PAIR), "key")
    stranger = public_of(new_key_pair(lambda count: b"q" * count))
    strange = examined(raw(secrets=(PAIR,)), stranger)
    assert (strange.verifies, strange.wrong) == (False, ())
    assert "another secret" in told(strange, "key")


# --- how requests are saved ------------------------------------------------------------------------------------------

HEADERS = sign([SECRET], event_id="evt_1", timestamp=NOW, body=BODY)


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


DUMPS: dict[str, bytes] = {
    "raw": raw(),
    "with line feeds only": raw().replace(b"\r\n", b"\n"),
    "without a first line": "".join(f"{n}: {v}\n" for n, v in HEADERS.items()).encode() + b"\n" + BODY,
    "JSON": json.dumps({"headers": HEADERS, "body": BODY.decode()}).encode(),
    "JSON with pairs": json.dumps({"headers": list(HEADERS.items()), "rawBody": BODY.decode()}).encode(),
    "JSON with a parsed body": json.dumps({"headers": {n: [v] for n, v in HEADERS.items()}, "body": VALUE}).encode(),
    "curl": ("curl -X POST \\\n" + " \\\n".join(f"  -H '{n}: {v}'" for n, v in HEADERS.items())
             + f" \\\n  --data-binary '{BODY.decode()}' https://x").encode(),
    "dailies receive": ("12:34:56  POST /hook  signature valid\n" + "".join(f"  {n}: {v}\n" for n, v in HEADERS.items())
                        + pretty(VALUE) + "\n").encode(),
    "Node's map": ("".join(f"  '{n}': '{v}',\n" for n, v in HEADERS.items())).encode() + b"\n" + BODY,
    "CGI": "".join(f"HTTP_{n.upper().replace('-', '_')}: {v}\n" for n, v in HEADERS.items()).encode() + b"\n" + BODY,
    "Svix's names": raw().replace(b"webhook-", b"svix-"),
}  # fmt: skip


@pytest.mark.parametrize("form", DUMPS)
def test_every_form_of_a_request_is_read(form: str) -> None:
    diagnosis = examined(DUMPS[form])
    assert diagnosis.verifies, diagnosis


def test_what_curl_prints_needs_the_body_beside_it() -> None:
    printed = "* Trying\n" + "".join(f"> {n}: {v}\n" for n, v in HEADERS.items()) + "> \n< HTTP/1.1 401\n"
    dump = read_dump(printed.encode())
    assert told(diagnose(dump, USED, now=NOW), "body").startswith("the request has none")
    assert diagnose(dump.merged([], BODY), USED, now=NOW).verifies


def test_headers_can_be_given_beside_it() -> None:
    dump = Dump().merged(HEADERS.items(), BODY)
    assert diagnose(dump, USED, now=NOW).verifies
    assert diagnose(read_dump(raw(id="evt_2")).merged([("Webhook-Id", "evt_1")], None), USED, now=NOW).verifies


@pytest.mark.parametrize(
    "text", [b"hello", b"<html>", b'{"a": 1}', b"{", b"curl 'x", b"curl x", b"\x00\xff", b"x" * (5 << 20)]
)
def test_what_is_no_request_is_refused_in_words(text: bytes) -> None:
    with pytest.raises(UnreadableDump):
        read_dump(text)


@given(st.binary(max_size=300), st.text(max_size=80))
def test_hostile_input_is_only_not_right(noise: bytes, text: str) -> None:
    try:
        dump = read_dump(noise)
    except UnreadableDump:
        dump = Dump()
    parts = [(f"webhook-{part}", text) for part in ("id", "timestamp", "signature")]
    for each in (dump, dump.merged(parts, noise), dump.merged(HEADERS.items(), noise)):
        diagnosis = diagnose(each, [*USED, Known(text, "other")], now=NOW)
        assert not diagnosis.verifies
        assert all(finding.detail for finding in diagnosis.findings)
