"""`models`, `estimate`, and the options of `submit` that say whom to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.offers import estimate_table, offers_table
from pipeline.cli.submit import build_body
from pipeline.cli.words import dollars
from tests.cli_place import dailies, neighbour, printed_json

PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("service"), runway_api_key="k", fallback="runway") as place:
        yield place


def test_models_are_a_table_with_what_is_lacking(service):
    shown = service.run("models")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split()[:3] == ["PROVIDER", "MODEL", "SECONDS"]
    (mock,) = [line for line in lines if line.startswith("mock*")]
    assert "mock-1*" in mock
    assert "1-60" in mock
    assert "360p, 480p, 720p" in mock
    assert "luma needs LUMA_API_KEY" in lines
    assert "mock: mock-0 was shut down on 2026-10-01; ask for mock-1" in lines
    assert lines[-1] == "asked next by default: runway"


def test_models_of_one_provider(service):
    assert [each["name"] for each in printed_json("models", "runway", env=service.env)["data"]] == ["runway"]
    refused = service.run("models", "veo")
    assert refused.exit_code == 2
    assert "there is no provider 'veo'; known are mock, runway" in refused.stderr


def test_an_estimate_submits_nothing(service):
    shown = service.run("estimate", "a fox", "--duration", "8", "--resolution", "720p")
    assert shown.exit_code == 0, shown.output
    head, mock, runway = shown.stdout.splitlines()
    assert head.split()[-3:] == ["AS", "TOLD", "BY"]
    assert mock.split()[:6] == ["mock", "mock-1", "8", "720p", "0.40", "USD"]
    assert runway.split()[:4] == ["runway", "gen4.5", "8", "720p"]
    assert service.run("list").stdout.count("\n") == 1, "only the head of the table"


def test_an_estimate_is_refused_as_a_request_is(service):
    refused = service.run("estimate", "a fox", "--duration", "99", "--provider", "mock")
    assert refused.exit_code == 2
    assert "--duration (/parameters/duration): 99 is not offered by mock-1; allowed: 1-60" in refused.stderr
    refused = service.run("estimate", "a fox", "--provider", "mock", "--fallback", "runway:gen4.5", "--duration", "20")
    assert "--fallback (/fallback/0): parameters/duration: 20 is not offered" in refused.stderr


def test_an_estimate_tells_who_is_left_out(service):
    shown = service.run("estimate", "a fox", "--provider", "mock", "--fallback", "luma")
    assert "luma is left out: 'luma' needs LUMA_API_KEY" in shown.stdout


def test_submit_names_a_chain_and_show_tells_it(service):
    taken = service.run("submit", "a fox", "--provider", "mock", "--fallback", "runway:gen4.5", "--extra", '{"tag": 1}')
    assert taken.exit_code == 0, taken.output
    shown = service.run("show", taken.stdout.strip())
    assert "or else       runway, gen4.5" in shown.stdout
    assert "estimate      0.40 USD" in shown.stdout


def test_the_body_of_the_options(tmp_path: Path):
    (tmp_path / "z.png").write_bytes(PNG)
    asked = {"prompt": "x", "fallback": ("fal:fal-ai/veo3.1", "luma"), "extra": {"a": 1}, "last_image": "z.png"}
    body = build_body(asked)
    assert body["fallback"] == [{"provider": "fal", "model": "fal-ai/veo3.1"}, {"provider": "luma"}]
    assert body["extra"] == {"a": 1}
    assert body["parameters"]["lastImage"]["mimeType"] == "image/png"
    assert "image" not in body["parameters"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--last-image", "/nowhere.png"), "--last-image /nowhere.png: No such file"),
        (("--last-image", __file__), "neither PNG, JPEG nor WebP"),
        (("--extra", "[1]"), "is a JSON object"),
        (("--extra", "{"), "is a JSON object"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(options, words):
    for command in ("submit", "estimate"):
        answer = dailies(command, "a fox", *options)
        assert answer.exit_code == 2
        assert words in answer.stderr


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0.00 USD"), (1, "0.01 USD"), (400_000, "0.40 USD"), (1_005_000, "1.01 USD")]
)
def test_money_is_rounded_up(micros, text):
    assert dollars(micros) == text


def test_a_table_of_nothing_much():
    provider = {"name": "x", "default": False, "ready": False, "needs": [], "retired": [], "models": []}
    model = dict.fromkeys(("imageData", "lastImage", "seed", "negativePrompt"), False) | {
        "id": "m",
        "default": False,
        "durations": [],
        "resolutions": [],
        "prices": {"*": 120_000, "720p": 50_000},
        "perImage": 74_000,
        "audio": "optional",
        "typicalSeconds": 600.0,
    }
    text = offers_table({"data": [provider | {"models": [model]}], "fallback": []})
    assert text.splitlines()[1].split() == [
        "x",
        "(not",
        "ready)",
        "m",
        "-",
        "-",
        "0.05",
        "to",
        "0.12",
        "+0.074/picture",
        "10",
        "min",
        "audio",
    ]


def test_an_estimate_from_history_says_so():
    expected = {"p50": 61.0, "p90": 300.0, "samples": 42, "basis": "history"}
    candidate = {"provider": "fal", "model": None, "parameters": {}, "estimatedCostMicros": 12, "warnings": ["careful"]}
    found = {"candidates": [candidate | {"expectedSeconds": expected}], "leftOut": [], "spendCap": None}
    text = estimate_table(found)
    assert "the last 42" in text
    assert text.endswith("warning: careful")
