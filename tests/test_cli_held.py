"""`dailies held` and `dailies resolve`: what they print, what they ask, and how they end."""

from __future__ import annotations

import json

import pytest

from pipeline.cli.holding import held_text
from tests.cli_place import neighbour

ASKED = {"prompt": "a fox"}
KEY = {"authorization": "Bearer mock"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    settings = {"mock_recovery": "none", "on_unknown_submit": "hold", "lane_pause": 0.01, "lease": 2}
    with neighbour(tmp_path_factory.mktemp("held"), **settings) as place:
        yield place


def held(service, name):
    """The id of a generation whose paid call was cut off: nobody here knows that it was not taken."""
    made = service.call(service.house.submit, f"[[cut-submit:1]] {name}")
    service.call(service.house.reached, made["id"], "held")
    return made["id"]


def test_what_is_held_is_explained_and_what_is_not_is_said(service):
    assert service.run("held").stdout == "nothing is held: every paid call has a known outcome\n"
    generation_id = held(service, "a fox")
    told = service.run("held")
    assert told.exit_code == 0, told.output
    for word in (generation_id, "USD at stake", "happened", "tried", "can come", "then", "what to do"):
        assert word in told.stdout
    (entry,) = json.loads(service.run("held", "--json").stdout)["data"]
    assert entry["id"] == generation_id
    shown = service.run("show", generation_id).stdout
    assert "at stake; see: dailies held" in shown
    asked = service.run("resolve", generation_id, "--as", "abandon")
    assert asked.exit_code == 2
    assert "say --yes" in asked.stderr
    done = service.run("resolve", generation_id, "--as", "abandon", "--yes")
    assert (done.exit_code, done.stdout) == (0, f"{generation_id}  failed\n"), done.output
    again = service.run("resolve", generation_id, "--as", "abandon", "--yes")
    assert again.exit_code == 2
    assert "its last call is abandoned" in again.stderr


def test_what_is_deleted_can_still_be_closed(service):
    generation_id = held(service, "a stoat")
    service.call(service.house.api.post, f"/api/generations/{generation_id}/cancel")
    service.call(service.house.ended, generation_id)
    assert service.call(service.house.api.delete, f"/api/generations/{generation_id}").status_code == 204
    done = service.run("resolve", generation_id, "--as", "abandon", "--yes")
    assert (done.exit_code, done.stdout) == (0, f"{generation_id}  cancelled\n"), done.output
    assert service.run("held").stdout == "nothing is held: every paid call has a known outcome\n"


def test_what_a_person_found_goes_on(service):
    generation_id = held(service, "an owl")
    made = service.call(service.house.provider.post, "/v1/videos", json=ASKED, headers=KEY).json()
    done = service.run("resolve", generation_id, "--as", "accepted", made["id"], "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stage"] == "generating"
    assert service.call(service.house.ended, generation_id)["status"] == "completed"


def test_what_was_not_taken_is_made_anew(service):
    generation_id = held(service, "a hare")
    assert service.run("resolve", generation_id, "--as", "not-taken", "--yes").exit_code == 0
    assert service.call(service.house.ended, generation_id)["status"] == "completed"


def test_an_operation_goes_with_accepted_alone(service):
    for arguments in (["--as", "accepted"], ["vid_1", "--as", "abandon"]):
        result = service.run("resolve", "gen_0", *arguments)
        assert result.exit_code == 2
        assert "OPERATION goes with --as accepted" in result.stderr


def test_a_candidate_is_named():
    entry = {
        "id": "gen_1",
        "provider": "fal",
        "model": "m",
        "atStakeMicros": 4_000_000,
        "since": "2026-11-24T05:00:00.000Z",
        "candidateOperation": "req_7",
        **dict.fromkeys(("happened", "tried", "canStillCome", "then", "whatToDo"), "x"),
    }
    text = held_text(entry, 1_795_500_000.0)
    assert "req_7, named by a callback" in text
    assert "fal, m  4.00 USD at stake" in text
