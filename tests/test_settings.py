"""`.env.example` and `Settings` say the same, and mistakes in settings are told in words."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from pipeline.config import Settings, SettingsError, load_settings

EXAMPLE = Path(__file__).parent.parent / ".env.example"
LINE = re.compile(r"(?P<off># )?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)\Z")
ACTIVE = {
    "provider": "mock",
    "mock_url": "http://127.0.0.1:8001",
    "mock_speed": 30.0,
    "allowed_networks": (ip_network("127.0.0.0/8"), ip_network("::1/128")),
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    """No setting comes from the environment or from a `.env` of the machine."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def example():
    return [match for line in EXAMPLE.read_text().splitlines() if (match := LINE.match(line))]


def plain(settings):
    """Comparable values: an empty secret is none."""
    values = settings.model_dump()
    values["r2_secret_access_key"] = values["r2_secret_access_key"] or None
    return values


def test_the_example_lists_every_setting_once_and_nothing_else():
    names = [line["name"].lower() for line in example()]
    assert sorted(names) == sorted(Settings.model_fields)


def test_every_setting_in_the_example_is_explained():
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if LINE.match(line):
            above = next(text for text in reversed(lines[:number]) if not LINE.match(text))
            assert above.startswith("# "), line


def test_the_example_is_for_development():
    assert {line["name"].lower() for line in example() if not line["off"]} == set(ACTIVE)
    assert plain(Settings(_env_file=EXAMPLE)) == plain(Settings(_env_file=None)) | ACTIVE


def test_the_values_that_are_switched_off_are_the_defaults(tmp_path):
    everything = tmp_path / "everything"
    everything.write_text("\n".join(f"{line['name']}={line['value']}" for line in example()))
    assert plain(Settings(_env_file=everything)) == plain(Settings(_env_file=None)) | ACTIVE


def test_no_provider_is_chosen_and_a_paid_video_is_not_given_up_unless_one_says_so(monkeypatch):
    settings = Settings(_env_file=None)
    assert (settings.provider, settings.store_attempts) == (None, 1000)
    monkeypatch.setenv("PROVIDER", "")
    assert Settings(_env_file=None).provider is None


def test_the_environment_comes_before_the_file(monkeypatch):
    monkeypatch.setenv("MOCK_SPEED", "7")
    assert Settings(_env_file=EXAMPLE).mock_speed == 7


def test_env_in_the_working_directory_is_read(tmp_path):
    (tmp_path / ".env").write_text("API_KEY=one, two\nWEBHOOK_SCHEDULE=0,1.5\n")
    settings = load_settings()
    assert [key.get_secret_value() for key in settings.api_key] == ["one", "two"]
    assert settings.webhook_schedule == (0.0, 1.5)


def test_mistakes_are_named_one_per_line(monkeypatch):
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("ALLOWED_NETWORKS", "127.0.0.1/8")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["PORT", "ALLOWED_NETWORKS"]


def test_half_of_r2_is_refused_with_what_is_missing(monkeypatch):
    monkeypatch.setenv("R2_BUCKET", "videos")
    with pytest.raises(SettingsError, match="R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY"):
        load_settings()


def test_what_was_paid_is_kept_at_least_as_long_as_its_generation():
    with pytest.raises(SettingsError, match="KEEP_LEDGER needs"):
        load_settings(keep_ledger=10)
    with pytest.raises(SettingsError, match="KEEP_LEDGER needs"):
        load_settings(keep_ledger=10, keep_generations=11)
    assert load_settings(keep_ledger=10, keep_generations=10).keep_ledger == 10


@pytest.mark.parametrize("prefix", ["dailies", "/dailies/", "a//", "../", "a b/"])
def test_a_prefix_is_a_folder(prefix):
    with pytest.raises(SettingsError, match="R2_PREFIX"):
        load_settings(r2_prefix=prefix)


def test_a_public_bucket_names_files_under_the_prefix():
    assert load_settings(r2_public_url="https://v.example/", r2_prefix="one/").files_url == "https://v.example/one/"
    assert load_settings().files_url is None
