"""Event bodies: one body for both kinds of receiver, frozen bytes, and numbers as JavaScript writes them."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.events import (
    DEFAULT,
    MAX_BODY,
    OPT_IN,
    TERMINAL,
    EventTooLarge,
    EventType,
    build_body,
    is_wanted,
    validate_filter,
    validate_types,
)

COMPLETED: dict[str, Any] = {
    "id": "gen_1",
    "object": "generation",
    "generationId": "app-7",
    "userId": "user_42",
    "status": "completed",
    "prompt": "A cat",
    "result": {"videoUrl": "https://cdn.example/v.mp4", "duration": 8.0, "processingTime": 61234, "bytes": 5},
    "error": None,
}


def body_of(generation: dict[str, Any], type: str = "generation.completed") -> bytes:  # noqa: A002
    return build_body(type=type, occurred_at=1763820000.25, generation=generation, run=2, sequence=5)


def test_completed_speaks_to_both_kinds_of_receiver() -> None:
    event = json.loads(body_of(COMPLETED))
    assert event == {
        "type": "generation.completed",
        "timestamp": "2025-11-22T14:00:00.250Z",
        "data": {**COMPLETED, "run": 2, "sequence": 5},
        "event": "generation.completed",
        "jobId": "gen_1",
        "generationId": "app-7",
        "userId": "user_42",
        "status": "completed",
        "result": {"videoUrl": "https://cdn.example/v.mp4", "duration": 8, "processingTime": 61234},
        "error": None,
    }


def test_failed_has_a_sentence_at_the_top_and_the_structure_in_data() -> None:
    error = {"code": "content_blocked", "message": "The prompt was refused.", "retryable": False}
    event = json.loads(body_of({**COMPLETED, "status": "failed", "result": None, "error": error}, "generation.failed"))
    assert event["error"] == "The prompt was refused."
    assert event["data"]["error"] == error
    assert event["result"] is None


def test_failed_without_a_message_still_says_so() -> None:
    event = json.loads(body_of({"id": "gen_1", "status": "failed"}, "generation.failed"))
    assert event["error"] == "The generation failed."


def test_cancelled_has_neither_result_nor_error() -> None:
    event = json.loads(body_of({**COMPLETED, "status": "cancelled"}, "generation.cancelled"))
    assert event["result"] is None
    assert event["error"] is None


def test_our_id_stands_in_for_the_apps() -> None:
    event = json.loads(body_of({"id": "gen_9", "generationId": None, "status": "processing"}, "generation.processing"))
    assert event["generationId"] == event["jobId"] == "gen_9"


def test_bytes_are_compact_utf8_with_whole_numbers() -> None:
    body = body_of({**COMPLETED, "prompt": "Füße 猫 🎬", "parameters": {"a": [1.0, 0.5, -0.0, 1e20]}})
    assert "Füße 猫 🎬".encode() in body
    assert b'"a":[1,0.5,0,100000000000000000000]' in body
    assert b": " not in body


def test_lone_surrogates_become_replacement_characters() -> None:
    body = body_of({**COMPLETED, "prompt": "a\ud800b \ud83d\ude00"})
    assert json.loads(body)["data"]["prompt"] == "a\ufffdb 😀"


def test_long_prompts_are_cut_and_the_body_stays_small() -> None:
    body = body_of({**COMPLETED, "prompt": "猫" * 10_000})
    assert len(json.loads(body)["data"]["prompt"]) == 4_000
    assert len(body) < 20_000


def test_an_oversized_object_is_cut_to_the_essential_members() -> None:
    event = json.loads(body_of({**COMPLETED, "metadata": {"big": "x" * MAX_BODY}}))
    assert event["data"]["truncated"] is True
    assert event["data"]["run"] == 2
    assert event["data"]["result"]["videoUrl"] == event["result"]["videoUrl"] == "https://cdn.example/v.mp4"
    assert "metadata" not in event["data"]


def test_essentials_over_the_limit_are_refused() -> None:
    with pytest.raises(EventTooLarge, match="gen_1"):
        body_of({**COMPLETED, "userId": "x" * MAX_BODY})


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        body_of({**COMPLETED, "progress": number})


def test_the_object_given_is_not_changed() -> None:
    given_object = {**COMPLETED, "prompt": "x" * 5_000}
    body_of(given_object)
    assert len(given_object["prompt"]) == 5_000
    assert "run" not in given_object


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_json_survives(value: object) -> None:
    assert json.loads(body_of({**COMPLETED, "metadata": value}))["data"]["metadata"] == value


def test_types_are_sorted_into_default_and_opt_in() -> None:
    assert DEFAULT == TERMINAL == {"generation.completed", "generation.failed", "generation.cancelled"}
    assert (
        {"generation.processing", "generation.progress", "generation.held", "generation.expired", "webhook.test"}
    ) == OPT_IN
    assert validate_types(["generation.held", "generation.failed", "generation.held"]) == (
        EventType.HELD,
        EventType.FAILED,
    )


@pytest.mark.parametrize("names", [[], ["generation.canceled"], ["generation.failed", "*"]])
def test_unknown_types_are_named_beside_the_known(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"known are .*generation\.cancelled") as caught:
        validate_types(names)
    assert all(repr(name) in str(caught.value) for name in names if name != "generation.failed")


def test_a_filter_names_types_or_a_whole_family() -> None:
    names = ["generation.*", "generation.failed", "generation.*"]
    assert validate_filter(names) == ("generation.*", "generation.failed")
    assert is_wanted("generation.progress", names)
    assert is_wanted("generation.failed", ["generation.failed"])
    assert not is_wanted("generation.progress", ["generation.failed"])
    assert not is_wanted("webhook.test", ["generation.*"])
    assert not is_wanted("generationx.progress", ["generation.*"])


@pytest.mark.parametrize("names", [[], ["*"], ["generation."], ["gen*"], ["generation.*.x"], [""]])
def test_what_no_filter_can_be_is_refused_with_what_can(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"known are .*generation\.\*"):
        validate_filter(names)


def test_a_body_of_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown event type"):
        body_of(COMPLETED, "generation.done")
