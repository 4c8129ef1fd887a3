"""`dailies pause`, `resume` and `users`, against a service, and what they print."""

import pytest

from tests.cli_place import neighbour, printed_json


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("service"), work=False) as place:
        yield place


def said(service, *command: str) -> str:
    """What a command prints that has to succeed."""
    result = service.run(*command)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_kind_of_lane_is_paused_and_resumed_by_its_name(service):
    for given, shown in (
        ("mock", "provider:mock"),
        ("provider:mock", "provider:mock"),
        ("everything", "the whole service"),
        ("*", "the whole service"),
        ("endpoint:ep_default", "endpoint:ep_default"),
        ("user:alice", "user:alice of default"),
    ):
        assert said(service, "pause", given) == f"{shown} is paused until it is resumed: paused by hand\n"
        assert said(service, "resume", given) == f"{shown} is open\n"
    assert said(service, "pause", "user:al/ice", "--tenant", "acme", "--reason", "why").startswith(
        "user:al/ice of acme is paused until it is resumed: why"
    )
    assert said(service, "resume", "user:al/ice", "--tenant", "acme") == "user:al/ice of acme is open\n"


def test_stats_say_who_is_paused_in_the_words_of_the_answer(service):
    said(service, "pause", "--reason", "moving")
    said(service, "pause", "mock", "--reason", "invoice")
    said(service, "pause", "user:alice", "--seconds", "600")
    shown = said(service, "stats")
    assert "the whole service is paused until it is resumed: moving" in shown
    assert "paused until it is resumed: invoice" in shown
    assert "user:alice of default is paused until 2" in shown
    assert "9999" not in shown
    for lane in ("everything", "mock", "user:alice"):
        said(service, "resume", lane)
    assert "paused" not in said(service, "stats")


def test_a_user_is_set_shown_listed_and_reset(service):
    assert said(service, "users").startswith("nobody waits")
    said(service, "users", "set", "alice", "--weight", "3")
    said(service, "users", "set", "alice", "--max-in-flight", "5")
    service.call(service.house.submit, "x", userId="alice")
    service.call(service.house.submit, "x")
    lines = said(service, "users").splitlines()
    assert lines[0].split() == ["USER", "TENANT", "WAITING", "IN", "FLIGHT", "AT", "MOST", "WEIGHT", "TODAY", "STATE"]
    assert [line.split()[:3] for line in lines[1:]] == [["(no", "userId)", "default"], ["alice", "default", "1"]]
    assert lines[2].split()[3:6] == ["0", "5", "3"], "what was not named stayed as it was"
    assert printed_json("users", "show", "alice", env=service.env)["weight"] == 3
    said(service, "users", "set", "alice", "--max-in-flight", "none")
    said(service, "pause", "user:alice", "--reason", "abuse")
    assert "paused until it is resumed: abuse" in said(service, "users", "reset", "alice")
    assert printed_json("users", "show", "alice", env=service.env)["weight"] == 1


@pytest.mark.parametrize(
    "wrong",
    [("set", "alice"), ("set", "alice", "--weight", "0"), ("set", "alice", "--max-in-flight", "-1"), ("show",),
     ("set", "alice", "--max-in-flight", "many")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_it_is_asked(service, wrong):
    assert service.run("users", *wrong).exit_code == 2


def test_who_is_not_known_is_named(service):
    unknown = service.run("pause", "other")
    assert (unknown.exit_code, "allowed: " in unknown.stderr, "user:ID" in unknown.stderr) == (2, True, True)
    assert service.run("pause", "mock", "--tenant", "acme").exit_code == 2
