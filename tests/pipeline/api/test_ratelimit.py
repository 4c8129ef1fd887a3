"""Requests per minute and key: a burst at once, then a steady trickle, told in the headers as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api import ratelimit
from pipeline.api.ratelimit import Buckets, burst


class Watch:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def buckets(watch: Watch) -> Buckets:
    return Buckets(watch)


def test_a_rested_key_may_make_a_burst_and_then_its_rate(buckets: Buckets, watch: Watch) -> None:
    answers = [buckets.take("key_a", 600) for _ in range(102)]
    assert [answer.allowed for answer in answers] == [True] * 100 + [False] * 2
    assert [answer.remaining for answer in answers[:3]] == [99, 98, 97]
    assert answers[99].remaining == answers[101].remaining == 0
    watch.now += 0.1
    assert [buckets.take("key_a", 600).allowed for _ in range(2)] == [True, False]
    watch.now += 3600
    assert buckets.take("key_a", 600).remaining == 99


@pytest.mark.parametrize(("rate", "size"), [(1, 5), (30, 5), (36, 6), (600, 100), (1_000_000, 166_666)])
def test_the_burst_is_what_comes_back_in_ten_seconds_and_five_at_least(rate: int, size: int) -> None:
    assert burst(rate) == size


def test_keys_do_not_count_for_one_another(buckets: Buckets) -> None:
    assert [buckets.take("key_a", 1).allowed for _ in range(6)][-1] is False
    assert buckets.take("key_b", 1).allowed


def test_the_headers_are_those_of_draft_11(buckets: Buckets) -> None:
    """q and w: the quota per minute; r and t: what may be made at once, and for how long it has to last."""
    assert buckets.take("key_a", 600).headers() == {
        "RateLimit-Policy": '"key";q=600;w=60',
        "RateLimit": '"key";r=99;t=10',
    }


def test_who_has_none_left_is_told_when_the_next_is_taken(buckets: Buckets, watch: Watch) -> None:
    for _ in range(5):
        buckets.take("key_a", 6)
    refused = buckets.take("key_a", 6)
    assert (refused.allowed, refused.remaining, refused.seconds) == (False, 0, 10)
    watch.now += 9.5
    assert buckets.take("key_a", 6).seconds == 1
    watch.now += 0.5
    assert buckets.take("key_a", 6).allowed


@given(rate=st.integers(1, 100_000), pauses=st.lists(st.floats(0, 90), min_size=1, max_size=60))
def test_no_window_takes_more_than_burst_and_rate(rate: int, pauses: list[float]) -> None:
    watch = Watch()
    buckets, taken = Buckets(watch), 0
    for pause in pauses:
        watch.now += pause
        answer = buckets.take("key_a", rate)
        taken += answer.allowed
        assert 0 <= answer.remaining < burst(rate)
        assert answer.seconds >= 1
        assert re.fullmatch(r'"key";r=\d+;t=\d+', answer.headers()["RateLimit"])
    assert taken <= burst(rate) + (watch.now - 1000.0 - pauses[0]) * rate / 60 + 1


@given(rate=st.integers(1, 5_000), used=st.integers(1, 400))
def test_who_keeps_to_the_headers_is_never_refused(rate: int, used: int) -> None:
    watch = Watch()
    buckets = Buckets(watch)
    limit = [buckets.take("key_a", rate) for _ in range(used)][-1]
    for _ in range(30):
        watch.now += limit.seconds / max(limit.remaining, 1)
        limit = buckets.take("key_a", rate)
        assert limit.allowed


def test_full_buckets_are_forgotten(buckets: Buckets, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "MANY_BUCKETS", 100)
    for number in range(100):
        buckets.take(f"key_{number}", 60)
    buckets.take("key_busy", 1)
    watch.now += 30
    buckets.take("key_new", 60)
    assert set(buckets._full_at) == {"key_busy", "key_new"}
