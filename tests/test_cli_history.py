"""`dailies doctor --history` reads what every generation left behind, and names what must not be."""

import json
import sqlite3
from contextlib import closing

import pytest

from pipeline.cli.doctor.history import told
from pipeline.drill.rules import NAMES, Violation
from tests.cli_place import neighbour

OTHERS = tuple(f"--skip={name}" for name in ("storage", "provider", "webhook", "address", "clock", "worker"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("history")) as place:
        place.completed()
        yield place


def history(service, *options):
    result = service.run("doctor", "--json", *OTHERS, *options, env=service.local)
    return [check for check in json.loads(result.stdout)["data"] if check["name"] == "history"], result.exit_code


def test_it_is_read_on_request_only(service):
    assert history(service)[0] == []
    (check,), code = history(service, "--history")
    assert (check["verdict"], code) == ("ok", 0)
    assert "1 generations" in check["found"]


def test_what_was_tampered_with_is_named(service):
    with closing(sqlite3.connect(service.house.plant.settings.data_dir / "dailies.db")) as connection, connection:
        connection.execute("UPDATE timeline SET fence = 99 WHERE event = 'submit.accepted'")
    (check, *_), code = history(service, "--history")
    assert (check["verdict"], code) == ("failure", 1)
    assert "a turn wrote after a later turn had (fence_back): gen_" in check["found"]


def test_few_are_named_and_all_are_counted():
    found = [Violation("lost", f"g{number}", "it is gone") for number in range(5)]
    assert told(found) == [f"{NAMES['lost']} (lost): g0, g1, g2 and 2 more"]
