"""Reading: by either id, in pages, narrowed by exact filters."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.house import House

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(house_on_each_engine):
    return house_on_each_engine


async def ids(house: House, **params: str) -> set[str]:
    response = await house.api.get("/api/generations", params={"limit": "100"} | params)
    assert response.status_code == 200, response.text
    return {generation["id"] for generation in response.json()["data"]}


async def amend(house: House, generation_id: str, **values: object) -> None:
    await house.plant.db.write(lambda tx: tx.update("generation", values, "id = :id", {"id": generation_id}))


async def test_one_is_found_by_either_id(house, name):
    made = await house.submit("x", generationId=name())
    for reference in (made["id"], made["generationId"]):
        response = await house.api.get(f"/api/generations/{reference}")
        assert response.json() == made
        assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize("reference", ["gen_nothing", "nothing", "%00", "gen_%00", "%F0%9F%A6%8A", "..%2f", "x" * 5000])
async def test_an_unknown_one_is_404(house, reference):
    for path in ("", "/events", "/content"):
        response = await house.api.get(f"/api/generations/{reference}{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_pages_show_everything_once_while_more_arrive(house, name):
    user = name()
    made = {(await house.submit(f"{n}", userId=user))["id"] for n in range(7)}
    seen: list[str] = []
    url = f"/api/generations?limit=2&userId={user}&status=queued,processing"
    while url:
        response = await house.api.get(url)
        page = response.json()
        seen += [generation["id"] for generation in page["data"]]
        await house.submit("late", userId=user)
        link = response.headers.get("link", "")
        assert page["hasMore"] == bool(page["nextCursor"]) == bool(link)
        url = link.partition(">")[0].removeprefix("<")
        if url:
            assert url.startswith("/api/generations?")
            asked = parse_qs(urlsplit(url).query)
            assert asked["after"] == [page["nextCursor"]]
            assert asked["userId"] == [user]
    assert set(seen) == made
    assert len(seen) == len(made)
    assert seen == sorted(seen, reverse=True)


async def test_oldest_first_meets_those_that_came_meanwhile(house, name):
    user = name()
    made = [(await house.submit("x", userId=user))["id"]]
    page = (await house.api.get("/api/generations", params={"userId": user, "order": "asc", "limit": 1})).json()
    assert page["nextCursor"] is None
    made.append((await house.submit("x", userId=user))["id"])
    page = (await house.api.get("/api/generations", params={"userId": user, "order": "asc", "limit": 1})).json()
    rest = await house.api.get("/api/generations", params={"userId": user, "order": "asc", "after": page["nextCursor"]})
    assert [g["id"] for g in page["data"] + rest.json()["data"]] == sorted(made)


async def test_filters_narrow(house, name):
    user = name()
    one = await house.submit("x", userId=user, model="mock-1", generationId=name())
    two = await house.submit("x", userId=user, model="mock-9")
    await amend(house, two["id"], status="failed", error_code="content_blocked", finished_at=1, created_at=1_000)
    assert await ids(house, userId=user) == {one["id"], two["id"]}
    for params, expected in (
        ({"status": "failed"}, two),
        ({"status": "queued"}, one),
        ({"model": "mock-1"}, one),
        ({"errorCode": "content_blocked"}, two),
        ({"generationId": one["generationId"]}, one),
        ({"generationId": two["id"]}, two),
        ({"createdAfter": "2001-01-01T00:00:00Z"}, one),
        ({"createdBefore": "2001-01-01T00:00:00+02:00"}, two),
    ):
        assert await ids(house, userId=user, **params) == {expected["id"]}, params
    assert await ids(house, userId=user, status="failed,queued", provider="mock") == {one["id"], two["id"]}
    assert await ids(house, userId=user, provider="veo") == set()
    assert await ids(house, userId=user, generationId=one["id"], status="failed") == set()
    assert await ids(house, userId=user[:-1]) == set()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=000000001999999999", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=up", "order"),
        ("status=done", "status"),
        ("status=", "status"),
        ("status=failed,", "status"),
        ("after=x", "after"),
        ("after=%C3%BC", "after"),
        ("after=Z2VuXwAA", "after"),
        ("createdAfter=yesterday", "createdAfter"),
        ("createdAfter=2026-11-22T14:00:00", "createdAfter"),
        ("createdBefore=2026-11-22T14:00:00+00:00", "createdBefore"),
        ("user=x", "user"),
        ("userid=x", "userid"),
        ("&".join(f"metadata.{n}=x" for n in range(17)), "metadata"),
    ],
)
async def test_a_bad_parameter_is_named(house, query, named):
    response = await house.api.get(f"/api/generations?{query}")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, "invalid_parameter")
    assert [error["parameter"] for error in problem["errors"]] == [named]


async def test_nul_in_a_parameter_is_400(house):
    assert (await house.api.get("/api/generations?userId=a%00b")).status_code == 400


PAIRS = [
    ("campaign", "winter"),
    ("campaign", "Winter"),
    ("Campaign", "winter"),
    ("campaign", "winter sale"),
    ("x", 'say "hi"'),
    ("x", "100%"),
    ("x", "100_"),
    ("x", "1000"),
    ("x", "a\\b"),
    ("x", "a\\\\b"),
    ("x", "\\"),
    ("x", "füchse 🦊"),
    ("x", "fuechse"),
    ("x", "true"),
    ("x", "1"),
    ("x", "1.0"),
    ("x", "null"),
    ("x", ""),
    ("x", '"campaign": "winter"'),
    ('z"campaign', "winter"),
    ('z, "campaign', "winter"),
    ("a.b", "c"),
    ("$", "c"),
    ("🦊", "c"),
    ("x, ", ": "),
    (": ", ", "),
]


async def test_metadata_is_matched_exactly(house, name):
    """Each pair is found by its own filter and by no other's, quotes, wildcards and case included."""
    user = name()
    made = {pair: (await house.submit("x", userId=user, metadata=dict([pair])))["id"] for pair in PAIRS}
    for (key, value), generation_id in made.items():
        assert await ids(house, userId=user, **{f"metadata.{key}": value}) == {generation_id}, (key, value)


async def test_a_pattern_over_the_stored_text_cannot_trick_the_filter(house, name):
    user = name()
    await house.submit("x", userId=user, metadata={"x, ": ": ", "next": "y"})
    assert await ids(house, userId=user, **{"metadata.: ": ", "}) == set()
    assert await ids(house, userId=user, **{"metadata.x, ": ": ", "metadata.next": "y"}) != set()
    assert await ids(house, userId=user, **{"metadata.x, ": ": ", "metadata.next": "z"}) == set()


async def test_the_timeline_shows_what_happened_and_the_deliveries(house):
    made = await house.submit("x")
    await house.api.post(f"/api/generations/{made['id']}/cancel")
    body = (await house.api.get(f"/api/generations/{made['id']}/events")).json()
    assert [line["event"] for line in body["data"]] == ["queued", "ended.cancelled"]
    (delivery,) = body["deliveries"]
    assert (delivery["type"], delivery["attempts"]) == ("generation.cancelled", [])
    assert json.dumps(body).count("whsec_") == 0
