"""Why a generation waits, in words, and when its turn should come: every reason, without a service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.admission import Standing, Why
from pipeline.api.explain.facts import Facts, Workers
from pipeline.api.explain.waiting import expected_start, tell_waiting
from pipeline.queue import FAR_FUTURE

NOW = 1_764_000_000_000
ROW = {"id": "gen_1", "user_id": "alice", "tenant_id": "default", "provider": "fal"}
FULL = Standing(Why.LANE_FULL, "provider:fal", position=5, lane_in_flight=10, lane_places=10, user_in_flight=3)


def facts(row: dict[str, Any] | None = None, workers: Workers | None = None) -> Facts:
    alive = workers or Workers(1, NOW)
    return Facts(NOW, ROW | (row or {}), {}, None, alive, None, [], None, [], None, [])


def told(standing: Standing, *, operator: bool = True, seconds: float = 60.0, **row: Any) -> Any:
    return tell_waiting(facts(row), standing, seconds, operator=operator)


def test_every_reason_has_its_sentence_and_its_advice():
    for why in Why:
        said = told(replace(FULL, reason=why, detail="because", user_places=3, user_total=3, per_minute=60))
        assert said.state == why.value
        assert said.summary.endswith(".")
        assert said.to_do
        for text in (said.summary, said.to_do):
            assert "None" not in text
            assert "  " not in text


@pytest.mark.parametrize(
    ("why", "words", "to_do"),
    [
        (Why.SERVICE_PAUSED, "The whole service is paused until it is resumed: lunch.", "`dailies resume`"),
        (Why.LANE_PAUSED, "The road to fal is paused until it is resumed: lunch.", "`dailies resume fal`"),
        (Why.USER_PAUSED, "Its user is paused until it is resumed: lunch.", "`dailies resume user:alice`"),
    ],
)
def test_a_pause_without_an_end_promises_no_start(why, words, to_do):
    said = told(replace(FULL, reason=why, retry_at=FAR_FUTURE, detail="lunch"))
    assert said.summary.startswith(words)
    assert to_do in said.to_do
    assert "9999" not in said.summary
    assert (said.facts["retryAt"], said.facts["expectedStart"]) == (None, None)


@pytest.mark.parametrize(("user", "who"), [("alice", "The user alice"), (None, "Requests without a userId")])
def test_who_may_have_nothing_in_flight_is_not_told_to_wait_for_one_that_ends(user, who):
    said = told(replace(FULL, reason=Why.USER_FULL, user_places=0, position=None), user_id=user)
    assert said.summary == f"{who} may have nothing in flight: the bound is 0."
    assert not said.to_do.startswith("Nothing")


def test_a_place_that_was_not_counted_is_a_lower_bound():
    assert "It is at least number 5 in line." in told(replace(FULL, exact=False)).summary


def test_a_pause_with_an_end_says_when_and_what_follows():
    said = told(replace(FULL, reason=Why.LANE_PAUSED, retry_at=NOW + 600_000, detail="429."))
    assert "is paused until 2025-11-24T16:10:00Z: 429." in said.summary
    assert "It is number 5 in line." in said.summary
    assert "It should start about 2025-11-24T16:10:30Z (in 10 min)." in said.summary


def test_a_tenant_is_told_neither_figures_of_the_service_nor_commands_that_it_may_not_use():
    for why in Why:
        said = told(replace(FULL, reason=why, user_places=3), operator=False)
        assert {said.facts["waiting"][name] for name in ("laneInFlight", "lanePlaces", "requestsPerMinute")} == {None}
        assert "10 of 10" not in said.summary
        if why in {Why.SERVICE_PAUSED, Why.LANE_PAUSED, Why.LANE_PROBING, Why.LANE_FULL}:
            assert "dailies resume" not in said.to_do
            assert "MAX_IN_FLIGHT" not in said.to_do


def test_nobody_is_there_to_start_it():
    gone = facts(workers=Workers(0, NOW - 3_600_000))
    said = tell_waiting(gone, FULL, 60.0, operator=True)
    assert said.state == "no_worker"
    assert "no worker is alive to start it: the last one was seen at 2025-11-24T15:00:00Z." in said.summary
    assert "dailies worker" in said.to_do
    never = tell_waiting(facts(workers=Workers(0, None)), FULL, 60.0, operator=False)
    assert "none that did not sign out is known" in never.summary
    assert "whoever runs the service" in never.to_do


def test_a_users_bound_is_told_with_how_to_raise_it():
    standing = replace(FULL, reason=Why.USER_FULL, position=None, user_total=3, user_places=3, ahead=2)
    said = told(standing)
    assert "Of at most 3 generations at once the user alice has 3 in flight, and 2 more" in said.summary
    assert "`dailies users set alice --max-in-flight N`" in said.to_do
    assert said.facts["expectedStart"] == "2025-11-24T16:01:00.000Z"
    assert "USER_MAX_IN_FLIGHT" in told(standing, user_id=None).to_do


# --- the pace --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({}, 30.0),  # five go before a place for it is free: ten places of a minute each
        ({"lane_in_flight": 8}, 18.0),
        ({"lane_in_flight": 5}, 0.0),
        ({"per_minute": 2}, 120.0),
        ({"reason": Why.MINUTE_USED, "per_minute": 60, "retry_at": NOW + 10_000, "lane_in_flight": 0}, 14.0),
        ({"lane_places": 0}, None),
        ({"reason": Why.USER_PAUSED, "retry_at": NOW + 5_000, "position": None}, 5.0),
        ({"reason": Why.USER_PAUSED, "retry_at": FAR_FUTURE, "position": None}, None),
        ({"reason": Why.SPEND, "retry_at": NOW + 9_000, "position": None}, 9.0),
        ({"reason": Why.SPEND, "position": None}, None),
        ({"reason": Why.LANE_PROBING}, None),
        ({"reason": Why.LANE_PAUSED, "retry_at": None}, None),
        ({"reason": Why.USER_FULL, "user_places": 0}, None),
        ({"reason": Why.NEXT, "position": 1, "lane_in_flight": 0}, 0.0),
    ],
)
def test_the_expected_start_goes_by_the_pace_of_the_road(change, seconds):
    found = expected_start(replace(FULL, **change), NOW, 60.0)
    assert found == (None if seconds is None else NOW + int(seconds * 1000))


@given(
    st.integers(1, 10**6), st.integers(0, 10**5), st.integers(1, 10**5), st.floats(0.1, 10**5), st.integers(1, 10**5)
)
def test_who_stands_further_back_never_starts_earlier(position, flying, places, seconds, rate):
    one = replace(FULL, position=position, lane_in_flight=flying, lane_places=places, per_minute=rate)
    first, next_one = (expected_start(each, NOW, seconds) for each in (one, replace(one, position=position + 1)))
    assert first is not None
    assert next_one is not None
    assert NOW <= first <= next_one
