"""Problems: one shape for every refusal, a page behind each type, nothing of the inside in any of them."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipeline.api
from pipeline.api.problems import TITLES, to_problem
from pipeline.db import CommitUnknown, DatabaseBusy, DatabaseError, DatabaseUnavailable, WriterFull
from tests.house import open_house

pytestmark = pytest.mark.anyio

CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def codes_in_the_source() -> set[str]:
    """Every text in the API's source that is the name of a problem, the table itself left out."""
    found: set[str] = set()
    for path in Path(pipeline.api.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        table = [node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TITLES"]
        skipped = {id(node) for root in table for node in ast.walk(root)}
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
        }
    return found


async def test_every_problem_that_is_listed_is_raised_somewhere():
    assert set(TITLES) - codes_in_the_source() == set()
    assert all(CODE.fullmatch(code) for code in TITLES)


async def test_every_type_leads_to_a_page(house):
    response = await house.api.get("/api/generations/nothing")
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "code", "requestId", "retryable"} <= set(problem)
    assert problem["status"] == response.status_code
    assert problem["instance"] == "/api/generations/nothing"
    assert problem["requestId"] == response.headers["x-request-id"]
    for code in TITLES:
        page = await house.api.get(f"/problems/{code}")
        assert page.status_code == 200
        assert TITLES[code] in page.text
    assert problem["type"] == "/problems/not_found"
    assert (await house.api.get("/problems/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/generations", {"GET", "HEAD", "POST"}),
        ("PUT", "/api/generations/gen_1", {"GET", "HEAD", "DELETE"}),
        ("GET", "/api/generations/gen_1/cancel", {"POST"}),
        ("POST", "/api/generations/gen_1/content", {"GET", "HEAD"}),
        ("GET", "/callbacks/mock/x", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("PATCH", "/api/queue/status", {"GET", "HEAD"}),
    ],
)
async def test_405_names_what_is_allowed(house, method, path, allowed):
    response = await house.api.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/generations/", "/api//generations", "/healthz/", "/%00", "/..", "/🦊"]
)
async def test_there_is_nothing_elsewhere(house, path):
    response = await house.api.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_what_nobody_foresaw_is_500_and_shows_nothing(tmp_path, caplog):
    async with open_house(tmp_path, work=False) as house:
        await house.plant.db.write(lambda tx: tx.run("ALTER TABLE generation RENAME TO hidden_away"))
        response = await house.api.get("/api/generations", headers={"X-Request-Id": "mine"})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (500, "internal_error")
    assert "table" not in response.text
    assert "SELECT" not in response.text
    assert problem["requestId"] == response.headers["x-request-id"] == "mine"
    (record,) = [record for record in caplog.records if record.getMessage() == "request.failed"]
    assert record.fields["request"] == "mine"
    assert "no such table" in str(record.exc_info)


async def test_a_database_that_is_away_is_told_in_a_line_without_a_trace(tmp_path, caplog):
    def away(_):
        raise DatabaseUnavailable("the server at 10.0.0.7 is away")

    async with open_house(tmp_path, work=False) as house:
        house.plant.db.read_now = away
        response = await house.api.get("/api/generations", headers={"X-Request-Id": "mine"})
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    (record,) = [record for record in caplog.records if record.getMessage() == "request.failed"]
    assert (record.levelname, record.fields["request"], record.exc_info) == ("WARNING", "mine", None)
    assert record.fields["error"] == "the server at 10.0.0.7 is away"


async def test_a_writer_that_takes_no_more_is_503_and_worth_repeating(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        await house.api.get("/api/generations")
        await asyncio.to_thread(house.plant.db.close)
        response = await house.api.post("/api/generations", json={"prompt": "x"})
    assert (response.status_code, response.json()["code"]) == (503, "overloaded")
    assert response.json()["retryable"]
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatabaseBusy("locked by 10.0.0.7"), "overloaded"),
        (WriterFull("10.0.0.7"), "overloaded"),
        (CommitUnknown("lost by 10.0.0.7"), "commit_unknown"),
        (DatabaseError("connection refused by 10.0.0.7"), "database_unavailable"),
    ],
)
def test_trouble_with_the_database_is_told_apart_and_worth_repeating(error, code):
    problem = to_problem(error)
    assert (problem.status, problem.code, problem.retryable) == (503, code, True)
    assert int(problem.headers["Retry-After"]) >= 1
    assert "10.0.0.7" not in problem.detail


async def test_the_door_of_the_database_stays_open_after_a_refusal(house):
    """A unit that raises takes nothing else with it."""
    with pytest.raises(ZeroDivisionError):
        await house.plant.db.write(lambda tx: 1 / 0)
    assert (await house.api.post("/api/generations", json={"prompt": "x"})).status_code == 202


async def test_storage_that_fails_is_503(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        made = await house.submit("x")
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / "inputs").write_text("a file where a folder should be")
        picture = {"data": "iVBORw0KGgo=", "mimeType": "image/png"}
        response = await house.api.post("/api/generations", json={"prompt": "x", "parameters": {"image": picture}})
        assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable"), response.text
        assert response.headers["retry-after"] == "5"
        listed = (await house.api.get("/api/generations")).json()
        assert [generation["id"] for generation in listed["data"]] == [made["id"]]


async def test_each_request_is_one_line_that_names_the_problem(house, caplog):
    with caplog.at_level("INFO", logger="dailies"):
        await house.api.get("/api/generations/nothing")
        made = await house.submit("a secret fox")
    lines = [record.fields for record in caplog.records if record.getMessage() == "request.done"]
    assert [(line["status"], line.get("problem"), line.get("generation")) for line in lines] == [
        (404, "not_found", None),
        (202, None, made["id"]),
    ]
    assert "secret" not in str(lines)


def test_only_known_errors_are_told_apart():
    assert to_problem(KeyError("x")).code == "internal_error"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
parts = st.sampled_from(["duration", "seed", "image", "audio"])
known = st.sampled_from(
    ["prompt", "userId", "provider", "model", "parameters", "priority", "metadata", "generationId", "webhook", "url"]
)
near_misses = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1)},
    optional={
        "userId": st.text() | json_values,
        "provider": st.just("mock") | json_values,
        "priority": st.integers(-1, 12) | json_values,
        "metadata": st.dictionaries(st.text(), st.text() | json_values, max_size=3) | json_values,
        "generationId": st.text(max_size=5) | json_values,
        "parameters": st.dictionaries(parts, json_values) | json_values,
        "webhook": st.fixed_dictionaries({"url": st.text() | st.from_regex(r"https?://.{1,20}")}) | json_values,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=json_values | st.dictionaries(known, json_values) | near_misses)
async def test_any_json_is_a_generation_or_a_refusal(house, body):
    response = await house.api.post("/api/generations", json=body)
    if isinstance(body, list) and body:
        assert response.status_code in {200, 202}
        answers = response.json()["data"]
        assert len(answers) == len(body)
        assert all(is_problem(answer["problem"]) for answer in answers if answer["status"] != 202)
    elif response.status_code != 202:
        assert 400 <= response.status_code < 500
        assert response.headers["content-type"] == "application/problem+json"
        assert is_problem(response.json())


def is_problem(body: dict) -> bool:
    members = {name for error in body.get("errors", []) for name in error}
    return body["code"] in TITLES and members <= {"pointer", "detail", "allowed"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
async def test_any_bytes_are_refused(house, raw):
    response = await house.api.post("/api/generations", content=raw, headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500
