"""`dailies keys`: made once and shown once, listed by hint, ended for good; on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline import credentials
from pipeline.cli import main
from pipeline.config import Settings, SettingsError
from pipeline.credentials import digest
from pipeline.safety import check_exposure
from tests.house import make_settings
from tests.pipeline.engines import Place

Run = Callable[..., Result]


@pytest.fixture
def run(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`dailies keys ...` on an empty database; exit code 0 unless said otherwise."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", place.url)

    def call(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["keys", *args], prog_name="dailies")
        assert result.exit_code == code, result.output
        return result

    return call


def test_a_key_is_printed_once_alone_on_standard_output(run: Run, place: Place) -> None:
    made = run("create", "web")
    key = made.stdout.strip()
    assert made.stdout.count("\n") == 1
    assert key not in made.stderr
    assert 'curl -H "Authorization: Bearer $KEY" http://localhost:8000/api/generations' in made.stderr
    assert "600 requests per minute" in made.stderr
    found = place.open().read_now(lambda tx: credentials.live(tx, [digest(key.encode())]))
    assert [row["scopes"] for row in found.values()] == ["read submit"]
    for listing in (run("list"), run("list", "--json")):
        assert key not in listing.output
        assert digest(key.encode()) not in listing.output
        assert key[:8] in listing.stdout


def test_the_first_key_shuts_the_door_and_says_so(run: Run) -> None:
    assert "from now on nobody calls without one" in run("create", "web").stderr
    assert "from now on" not in run("create", "second").stderr


def test_where_the_door_was_shut_before_nothing_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "sesame")
    assert "from now on" not in run("create", "web").stderr


def test_everything_about_a_key_can_be_said(run: Run) -> None:
    command = ["create", "acme web", "--tenant", "acme", "--scope", "submit", "--scope", "read", "--expires", "90d"]
    body = json.loads(run(*command, "--rate", "30", "--json").stdout)
    assert body.pop("key").startswith(body["hint"])
    assert body.pop("first") is True
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed == body
    assert (listed["tenant"], listed["scopes"], listed["ratePerMinute"]) == ("acme", ["read", "submit"], 30)
    assert (listed["state"], listed["lastUsedAt"], listed["revokedAt"]) == ("active", None, None)
    assert listed["expiresAt"] > listed["createdAt"]


def test_a_key_is_revoked_for_good(run: Run, place: Place) -> None:
    body = json.loads(run("create", "web", "--json").stdout)
    assert "is revoked" in run("revoke", body["id"]).stdout
    assert "was revoked before" in run("revoke", body["id"]).stdout
    assert json.loads(run("revoke", body["id"], "--json").stdout)["state"] == "revoked"
    assert place.open().read_now(lambda tx: credentials.live(tx, [digest(body["key"].encode())])) == {}
    assert "revoked" in run("list").stdout


def test_an_end_is_counted_from_now(run: Run, place: Place) -> None:
    run("create", "web", "--expires", "12h")
    (row,) = place.open().read_now(credentials.listing)
    assert row["expires_at"] - row["created_at"] == 12 * 3_600_000


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["create", "web", "--expires", "soon"], "'soon' is no time such as 12h, 90d, 8w or 1y"),
        (["create", "web", "--expires", "0d"], "is no time such as"),
        (["create", "web", "--tenant", "Acme Inc"], "'Acme Inc' cannot be a tenant's name"),
        (["create", "web", "--tenant", "inputs"], "is not inputs"),
        (["create", ""], "1 to 100 printable characters"),
        (["create", "web", "--rate", "0"], "0 is not in the range"),
        (["create", "web", "--scope", "all"], "'all' is not one of"),
    ],
)
def test_mistakes_are_told_in_words_and_nothing_is_made(run: Run, args: list[str], message: str) -> None:
    assert message in run(*args, code=2).stderr
    assert "there are no keys" in run("list").stderr


def test_what_does_not_exist_is_not_revoked(run: Run) -> None:
    assert "there is no key 'key_1'" in run("revoke", "key_1", code=1).stderr


def test_a_database_that_cannot_be_used_is_told_in_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert "the database cannot be used" in run("create", "web", code=2).stderr


@pytest.mark.parametrize("args", [["keys"], ["keys", "create"], ["keys", "list"], ["keys", "revoke"]])
def test_help_has_an_example(args: list[str]) -> None:
    answer = CliRunner().invoke(main, [*args, "--help"], prog_name="dailies")
    assert answer.exit_code == 0
    assert f"Example:\n    dailies {' '.join(args)}" in answer.stdout


def test_a_made_key_lets_others_reach_the_service_as_well_as_one_of_the_settings(
    run: Run, place: Place, tmp_path: Path
) -> None:
    values = {"host": "0.0.0.0", "allow_mock": True, "database_url": place.url}
    with pytest.raises(SettingsError, match=r"API_KEY must be set.*dailies keys create"):
        check_exposure(make_settings(tmp_path, **values))
    check_exposure(make_settings(tmp_path, **values, api_key="sesame"))
    run("create", "web")
    check_exposure(make_settings(tmp_path, **values))
