"""`dailies endpoints`: what it prints, where the secret goes, and how it ends."""

from __future__ import annotations

import json

import pytest

from tests.cli_place import neighbour
from webhooks.signing import parse_secret

URL = "https://app.example/api/webhooks/worker"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("endpoints")) as place:
        yield place


def made(service, *options):
    """A new endpoint, as JSON."""
    done = service.run("endpoints", "create", URL, "--json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def ids(service):
    return [each["id"] for each in json.loads(service.run("endpoints", "--json").stdout)["data"]]


def test_the_secret_alone_goes_to_standard_output(service):
    done = service.run("endpoints", "create", URL, "--events", "generation.*", "--description", "ours")
    assert done.exit_code == 0, done.output
    assert len(parse_secret(done.stdout.strip())) == 24
    assert "all you will see" in done.stderr
    assert "dailies endpoints test ep_" in done.stderr
    again = service.run("endpoints", "create", URL, "--signing", "v1a")
    assert again.stdout.startswith("whpk_")


def test_everything_can_be_said_and_is_shown_but_for_secrets(service):
    options = ["-H", "X-Api-Key: 123:4", "--ordered", "--max-in-flight", "2", "--rate", "60", "--signing", "both"]
    endpoint = made(service, *options)
    assert endpoint["headers"] == {"X-Api-Key": "***"}
    text = service.run("endpoints", "show", endpoint["id"]).stdout
    for word in ("at most 2 at once", "60 per minute", "in order", "X-Api-Key", "both", "whpk_", URL, "  on\n"):
        assert word in text, word
    assert "123:4" not in text
    assert endpoint["secret"] not in text


def test_the_list_shows_all_and_the_one_of_the_settings(service):
    endpoint = made(service)
    text = service.run("endpoints").stdout
    assert endpoint["id"] in text
    assert "ep_default" in text
    assert service.run("endpoints", "list").stdout.splitlines()[0] == text.splitlines()[0]
    acme = made(service, "--tenant", "acme")
    assert (
        json.loads(service.run("endpoints", "list", "--tenant", "acme", "--json").stdout)["data"][0]["id"] == acme["id"]
    )
    assert service.run("endpoints", "--limit", "1").stdout.endswith("larger --limit)\n")


def test_what_is_named_changes_and_none_takes_away(service):
    endpoint = made(service, "--max-in-flight", "2", "-H", "X-A: 1", "--description", "x")
    options = ["--max-in-flight", "none", "--header", "none", "--description", "none", "--events", "generation.failed"]
    done = service.run("endpoints", "update", endpoint["id"], *options, "--json")
    changed = json.loads(done.stdout)
    assert (changed["maxInFlight"], changed["headers"], changed["description"]) == (None, {}, None)
    assert changed["events"] == ["generation.failed"]
    assert "generation.failed" in service.run("endpoints", "update", endpoint["id"], "--unordered").stdout
    assert service.run("endpoints", "update", endpoint["id"]).exit_code == 2
    refused = service.run("endpoints", "update", "ep_default", "--to", URL)
    assert refused.exit_code == 2
    assert "WEBHOOK_URL" in refused.stderr


@pytest.mark.parametrize(
    "options", [["--rate", "0"], ["--rate", "x"], ["--max-in-flight", "101"], ["-H", "no colon"], ["--signing", "v2"]]
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(service, options):
    assert service.run("endpoints", "create", URL, *options).exit_code == 2


def test_a_refusal_of_the_service_is_told_in_words(service):
    refused = service.run("endpoints", "create", "https://10.0.0.1/x")
    assert refused.exit_code == 2
    assert "10.0.0.1" in refused.stderr
    missing = service.run("endpoints", "show", "ep_0")
    assert missing.exit_code == 2
    assert "no endpoint" in missing.stderr


def test_a_new_secret_is_printed_and_the_old_one_has_an_end(service, monkeypatch):
    endpoint = made(service)
    done = service.run("endpoints", "rotate", endpoint["id"], "--overlap", "2h")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() not in {endpoint["secret"], ""}
    assert "sign until" in done.stderr
    own = f"whsec_{'A' * 32}"
    monkeypatch.setenv("DAILIES_ENDPOINT_SECRET", own)
    gone = service.run("endpoints", "rotate", endpoint["id"], "--overlap", "0")
    assert gone.stdout.strip() == own
    assert "are gone" in gone.stderr
    assert service.run("endpoints", "rotate", endpoint["id"], "--overlap", "1y").exit_code == 2
    assert service.run("endpoints", "rotate", "ep_default").exit_code == 2


def test_a_test_ends_by_what_came_of_it(service):
    good = service.run("endpoints", "test", "ep_default")
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith("taken: ")
    assert "first byte" in good.stdout
    nowhere = made(service)["id"]
    service.run("endpoints", "update", nowhere, "--to", "http://127.0.0.1:1/x")
    bad = service.run("endpoints", "test", nowhere)
    assert bad.exit_code == 1
    assert "not taken" in bad.stderr
    told = service.run("endpoints", "test", nowhere, "--json")
    assert (told.exit_code, json.loads(told.stdout)["reason"]) == (1, "refused")


def test_it_is_switched_off_and_on_and_deleted(service):
    endpoint = made(service)["id"]
    off = service.run("endpoints", "disable", endpoint, "--reason", "moving")
    assert "switched off by hand: moving" in off.stdout
    assert service.run("endpoints", "enable", endpoint).stdout == f"{endpoint}  on\n"
    asked = service.run("endpoints", "delete", endpoint)
    assert asked.exit_code == 2
    assert "--yes" in asked.stderr
    assert service.run("endpoints", "delete", endpoint, "--yes").stdout == f"{endpoint}  deleted\n"
    assert endpoint not in ids(service)
