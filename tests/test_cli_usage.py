"""`dailies usage`, and the paid calls in `dailies show`."""

import pytest

from pipeline.cli.usage import calls_text, usage_table
from tests.cli_place import dailies, neighbour, printed_json

SUM = {"submissions": 3, "succeeded": 1, "failed": 1, "open": 1, "unclear": 0}
MONEY = {"costMicros": 400_000, "openMicros": 1_000_000, "totalMicros": 1_400_000}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("service")) as place:
        yield place


def test_usage_is_added_up_and_show_lists_the_calls(service):
    made = service.completed()
    table = service.run("usage", "--by", "provider", "--since", "7d").stdout.splitlines()
    assert table[0].split()[:3] == ["CALLS", "MADE", "FAILED"]
    assert table[1].split()[-1] == "mock"
    assert table[-1].endswith("total")
    assert printed_json("usage", "--by", "day", env=service.env)["groupBy"] == "day"
    shown = service.run("show", made).stdout
    assert "Paid calls" in shown
    assert "mock, mock-1  succeeded  0.40 USD" in shown
    (call,) = printed_json("show", made, env=service.env)["submissions"]
    assert call["billed"] == "yes"


def test_a_group_that_cannot_be_and_a_time_that_is_none_are_2(service):
    assert service.run("usage", "--by", "colour").exit_code == 2
    assert service.run("usage", "--since", "yesterday").exit_code == 2
    assert service.run("usage", "--since", "2001-01-01T00:00Z").exit_code == 2
    assert dailies("usage", "--url", "http://127.0.0.1:1", "--retry-for", "0.1").exit_code == 3


def test_a_group_without_a_name_and_more_of_them_are_told():
    rows = [{"group": None, "provider": None, **SUM, **MONEY}, {"group": "m", "provider": "fal", **SUM, **MONEY}]
    text = usage_table({"groupBy": "model", "data": rows, "total": SUM | MONEY, "hasMore": True})
    assert text.splitlines()[1].split()[-3:] == ["1.40", "USD", "-"]
    assert "m (fal)" in text
    assert text.endswith("total, and more groups: --limit")


def test_a_call_says_what_it_cost_or_may_have():
    call = {
        "intendedAt": "2026-11-24T12:00:00.000Z",
        "provider": "fal",
        "model": None,
        "outcome": "abandoned",
        "billed": "unknown",
        "estimateMicros": 3_200_000,
        "costMicros": None,
        "operation": None,
        "error": {"code": "submit_unknown", "message": "x"},
    }
    refused = call | {"billed": "no", "costMicros": 0, "outcome": "rejected", "operation": "op_1", "model": "m"}
    assert calls_text([call, refused]) == [
        "  12:00:00.000  fal  abandoned  about 3.20 USD, if it is charged  submit_unknown",
        "  12:00:00.000  fal, m  rejected  not charged  op_1  submit_unknown",
    ]
    assert calls_text([]) == ["  none yet"]


def test_a_cap_is_told_at_once_with_what_to_do(tmp_path):
    with neighbour(tmp_path / "capped", spend_per_user_day="0.1") as place:
        result = place.run("submit", "a fox")
    assert result.exit_code == 2
    assert "SPEND_PER_USER_DAY" in result.stderr
    assert "what to do: try again after midnight UTC" in result.stderr
