"""Chains: what is written of them, and what follows from taking the next."""

from __future__ import annotations

import json

import pytest

from pipeline.chain import Chain, Named, chain_of, columns, has_fallback, settle, take
from providers.base import Media, VideoRequest
from providers.catalogue import load_catalogue

MOCK, RUNWAY = load_catalogue("mock"), load_catalogue("runway")
ASKED = VideoRequest("a fox", resolution="720p", extra={"loop": True})


def stored(chain: Chain, **columns_of_row: object) -> dict[str, object]:
    row = {"prompt": "a fox", "parameters": json.dumps({"resolution": "720p"}), "input_type": None}
    return {**row, "last_input_type": None, **columns(chain), **columns_of_row}


def test_a_candidate_is_settled_and_priced_by_its_own_catalogue():
    mine, other = settle(ASKED, "mock", MOCK), settle(ASKED, "runway", RUNWAY)
    assert (mine.model, mine.request.duration, mine.estimate_micros) == ("mock-1", 8, 8 * 50_000)
    assert (other.model, other.request.duration, other.estimate_micros) == ("gen4.5", 5, 5 * 120_000)
    assert mine.warning is other.warning is None


def test_an_unknown_model_is_warned_of_and_priced_as_the_dearest():
    candidate = settle(VideoRequest("a fox", model="gen-99"), "runway", RUNWAY)
    dearest = max(price for model in RUNWAY.models.values() for price in model.prices.values())
    longest = max(max(model.durations, default=0) for model in RUNWAY.models.values())
    assert candidate.model == "gen-99"
    assert candidate.estimate_micros == dearest * longest
    assert candidate.warning is not None
    assert RUNWAY.date in candidate.warning


def test_one_candidate_needs_no_chain():
    row = stored(Chain([settle(ASKED, "mock", MOCK)]))
    assert (row["chain"], row["candidate"], row["warnings"]) == ("[]", 0, None)
    assert chain_of(row) == [Named("mock", "mock-1", {"loop": True})]
    assert not has_fallback(row)


def test_taking_the_next_changes_all_that_is_its_own():
    runway = settle(VideoRequest("a fox", model="veo3.1", resolution="720p", extra={"a": {"b": 1}}), "runway", RUNWAY)
    row = stored(Chain([settle(ASKED, "mock", MOCK), runway]))
    assert has_fallback(row)
    assert take(row, 1, RUNWAY) == {
        "provider": "runway",
        "model": "veo3.1",
        "extra": '{"a": {"b": 1}}',
        "duration": 8,
        "estimate_micros": 8 * 400_000,
        "candidate": 1,
    }
    later = row | take(row, 1, RUNWAY)
    assert not has_fallback(later)
    assert chain_of(later) == chain_of(row)
    assert take(later, 0, MOCK) == {name: row[name] for name in take(later, 0, MOCK)}


def test_pictures_of_a_stored_generation_count_for_the_price_of_the_next():
    chain = Chain([settle(ASKED, "mock", MOCK), settle(ASKED, "runway", RUNWAY)])
    shown = {"image": {"mimeType": "image/png"}, "lastImage": {"url": "https://x.example/z.png"}}
    row = stored(chain, parameters=json.dumps(shown), input_type="image/png")
    assert take(row, 1, RUNWAY)["model"] == "gen4.5"


@pytest.mark.parametrize("extra", [{}, {"deep": [{"a": None}]}, {"umlaut": "ü", "number": 1.5}])
def test_extra_comes_back_as_it_was(extra):
    row = stored(Chain([settle(VideoRequest("x", extra=extra, image=Media(url="u")), "mock", MOCK)]))
    assert chain_of(row)[0].extra == extra
