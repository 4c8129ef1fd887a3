"""`dailies config`, `prune` and `completion`: what the machine itself tells."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.cli.effective import HIDDEN, Given, effective, shown, unknown, without_password
from pipeline.cli.pruning import pruned, swept
from pipeline.config import Settings
from pipeline.maintenance import Orphans, Round
from pipeline.storage.base import StoredObject
from tests.cli_place import dailies, neighbour, printed_json

ROOT = Path(__file__).parent.parent
SECRET = re.compile(r"(api|secret|access)_key$|secret$|^egress_proxy$")
SECRETS = {name.upper() for name in Settings.model_fields if SECRET.search(name)}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- config -----------------------------------------------------------------------------------------------------------


def test_each_setting_tells_where_it_came_from(tmp_path):
    (tmp_path / ".env").write_text("PORT=9000\nHOST=127.0.0.1\nLOG_LEVEL=debug\n")
    body = printed_json("config", env={"port": "9001", "WEBHOOK_SCHEDULE": "0,1.5"})
    found = {setting["name"]: (setting["value"], setting["source"]) for setting in body["data"]}
    assert list(found) == [name.upper() for name in Settings.model_fields]
    assert found["PORT"] == ("9001", "environment")
    assert found["HOST"] == ("127.0.0.1", ".env")
    assert found["LOG_LEVEL"] == ("debug", ".env")
    assert found["WEBHOOK_SCHEDULE"] == ("0,1.5", "environment")
    assert found["LEASE"] == ("10", "default")
    assert found["PUBLIC_URL"] == (None, "default")
    assert body["unknown"] == []


def test_no_secret_is_shown(tmp_path):
    (tmp_path / ".env").write_text("API_KEY=hush-one,hush-two\nSECRET_KEY=hush\n")
    env = {
        "WEBHOOK_SECRET": "whsec_hush",
        "FAL_API_KEY": "id:hush",
        "R2_SECRET_ACCESS_KEY": "hush",
        "R2_ACCESS_KEY_ID": "id",
        "R2_BUCKET": "b",
        "R2_ACCOUNT_ID": "a",
        "DATABASE_URL": "postgresql://ann:hush@db.example/dailies?sslmode=require&password=hush",
        "WEBHOOK_URL": "https://ann:hush@app.example/hook?token=hush&page=1",
    }
    body = printed_json("config", env=env)
    text = dailies("config", env=env)
    assert "hush" not in json.dumps(body) + text.output
    found = {setting["name"]: setting for setting in body["data"]}
    assert {name for name, setting in found.items() if setting["secret"]} == SECRETS
    assert found["API_KEY"]["value"] == f"{HIDDEN},{HIDDEN}"
    assert found["DATABASE_URL"]["value"].startswith(f"postgresql://ann:{HIDDEN}@db.example/dailies?sslmode=require")
    assert found["WEBHOOK_URL"]["value"].endswith(f"app.example/hook?token={HIDDEN}&page=1")


@pytest.mark.parametrize("url", ["sqlite:///data/dailies.db", "https://app.example/hook?a=1#b", "http://[::1]:8000"])
def test_a_url_without_secrets_is_shown_as_it_is(url):
    assert without_password(url) == url


@pytest.mark.parametrize("password", ["hu/sh", "hu#sh", "hu?sh", "hu@sh", "hu,sh/hush", ":hush/"])
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_password_that_nobody_quoted_is_hidden_all_the_same(scheme, password):
    assert without_password(f"{scheme}://ann:{password}@db:1/dailies") == f"{scheme}://ann:{HIDDEN}@db:1/dailies"


def test_a_database_as_hosts_hand_it_out_is_taken():
    settings = Settings(_env_file=None, database_url=" postgres://u@h/d\n", database_listen_url="postgres://u@h/d")
    assert settings.database == settings.database_listen_url == "postgresql://u@h/d"


def test_what_config_shows_can_be_written_into_env(tmp_path):
    settings = Settings(_env_file=None)
    lines = [f"{each.name}={each.value or ''}" for each in effective(settings, Given({}, {})) if not each.secret]
    (tmp_path / "shown").write_text("\n".join(lines))
    again = Settings(_env_file=tmp_path / "shown")
    assert again.model_dump(exclude={"r2_secret_access_key"}) == settings.model_dump(exclude={"r2_secret_access_key"})


def test_values_are_written_as_in_env():
    assert [shown(value, False) for value in (True, 1200.0, 0.1, (), ("a", "b"), None)] == [
        *("1", "1200", "0.1", None, "a,b", None)
    ]


def test_unknown_variables_that_look_like_ours_are_named_with_the_nearest(tmp_path):
    (tmp_path / ".env").write_text("PROVDER=mock\nNEXT_PUBLIC_APP=1\nR2_BUKET=videos\n")
    result = dailies("config", env={"WEBHOOK_SECRETS": "x", "R2_BUCKETS": "44", "OPENAI_API_KEY": "x", "RELEASE": "9"})
    assert result.stderr.splitlines() == [
        "R2_BUCKETS (environment) is no setting; did you mean R2_BUCKET?",
        "WEBHOOK_SECRETS (environment) is no setting; did you mean WEBHOOK_SECRET?",
        "PROVDER (.env) is no setting; did you mean PROVIDER?",
        "R2_BUKET (.env) is no setting; did you mean R2_BUCKET?",
    ]


def test_nothing_of_an_ordinary_environment_looks_like_ours():
    ordinary = {
        *("PATH", "HOME", "LANG", "TERM", "SHELL", "USER", "PWD", "HOSTNAME", "HOSTTYPE", "TMPDIR", "EDITOR", "CI"),
        *("VIRTUAL_ENV", "PYTHONPATH", "SSH_AUTH_SOCK", "AWS_ACCESS_KEY_ID", "AWS_REGION", "GITHUB_TOKEN", "NODE_ENV"),
        *("DATABASE_PASSWORD", "POSTGRES_PASSWORD", "LOGNAME", "RELEASE", "OPENAI_API_KEY", "FAL_KEY"),
    }
    assert unknown(Given(dict.fromkeys(name.lower() for name in ordinary), {})) == []


def test_settings_that_cannot_be_used_are_refused_and_strangers_named_all_the_same():
    result = dailies("config", env={"PORT": "http", "WEBHOOK_SECERT": "x"})
    assert result.exit_code == 2
    assert "PORT: " in result.stderr
    assert "did you mean WEBHOOK_SECRET?" in result.stderr


# --- prune ------------------------------------------------------------------------------------------------------------


def test_prune_looks_first_and_then_lets_go(tmp_path):
    with neighbour(tmp_path / "data", keep_jobs=0.001) as place:
        place.completed()
        env = place.local | {"KEEP_JOBS": "0.001"}
        before = printed_json("prune", "--dry-run", env=env)
        assert (before["object"], before["dryRun"]) == ("round", True)
        assert before["counts"]["jobs"] >= 1
        assert "would go" in dailies("prune", "--dry-run", env=env).stdout
        assert printed_json("prune", env=env)["counts"]["jobs"] >= 1
        assert printed_json("prune", "--dry-run", env=env)["counts"].get("jobs", 0) == 0


def test_prune_finds_orphans_and_leaves_them_in_a_dry_run(tmp_path):
    with neighbour(tmp_path / "data") as place:
        place.completed()
        body = printed_json("prune", "--orphans", "--dry-run", env=place.local)
    assert (body["object"], body["dryRun"], body["videos"], body["lost"]) == ("orphans", True, 1, [])
    assert body["files"] >= 1


def test_force_goes_with_orphans_only():
    assert dailies("prune", "--force").exit_code == 2


def test_a_round_and_a_sweep_in_words():
    done = Round(dry_run=False, counts={"jobs": 1200, "spool_files": 0}, problems=["no storage"], unfinished=True)
    assert pruned(done).text.splitlines() == [
        "gone:",
        "jobs      1,200",
        "there is more than one round takes: run it again",
    ]
    assert pruned(done).problem == "no storage"
    assert pruned(Round()).text == "nothing is due"
    found = Orphans(
        False, files=30, orphans=[StoredObject(f"a/{n}.mp4", 10, 0.0) for n in range(25)], refused="too many"
    )
    assert "no row owns 25 (250 bytes)" in swept(found).text
    assert "and 5 more" in swept(found).text
    assert swept(found).problem == "too many"


# --- completion -------------------------------------------------------------------------------------------------------


def test_bash_completes_commands_and_options(tmp_path):
    bash = shutil.which("bash") or pytest.skip("bash is not there: install it")
    script = tmp_path / "dailies.bash"
    script.write_text(dailies("completion", "bash").stdout)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dailies"
    command.write_text(f"#!{sys.executable}\nfrom pipeline.cli import main\nmain(prog_name='dailies')\n")
    command.chmod(0o755)
    ask = (
        f"source {script}; COMP_WORDS=(dailies can); COMP_CWORD=1; _dailies_completion dailies; echo ${{COMPREPLY[@]}}"
    )
    env = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([bash, "-c", ask], env=env, capture_output=True, text=True, check=False, timeout=20)
    assert done.stdout.split() == ["cancel"], done.stderr


@pytest.mark.parametrize(("shell", "words"), [("zsh", "#compdef dailies"), ("fish", "complete --no-files --command")])
def test_the_other_shells_have_their_scripts(shell, words):
    assert words in dailies("completion", shell).stdout


# --- help -------------------------------------------------------------------------------------------------------------


def every_command():
    """(names, command) of every command and subcommand."""
    for name, command in main.commands.items():
        yield (name,), command
        for below, inner in getattr(command, "commands", {}).items():
            yield (name, below), inner


@pytest.mark.parametrize("names", [names for names, _ in every_command()], ids=" ".join)
def test_every_command_has_help_with_an_example_and_its_exit_codes(names):
    result = dailies(*names, "--help")
    assert result.exit_code == 0
    assert f"dailies {names[0]}" in result.stdout
    assert "Example:" in result.stdout


def test_every_command_stands_in_one_section_of_the_help():
    listed = [name for names in main.sections.values() for name in names]
    assert sorted(listed) == sorted(main.commands)
    assert "Other:" not in dailies("--help").stdout
