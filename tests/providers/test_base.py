"""What the common vocabulary refuses and cleans: words and ids of strangers go into databases and paths."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import (
    MAX_ID,
    ErrorCode,
    Operation,
    Output,
    Phase,
    ProviderError,
    ProviderStatus,
)
from providers.decency import MAX_DATA, MAX_MESSAGE, clean
from providers.wire import submit_once


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("plain words", "plain words"),
        ("a\x00b", "ab"),
        ("half \ud800 a character", "half ? a character"),
        ("\N{FOX FACE}", "\N{FOX FACE}"),
        ("x" * 501, "x" * 500),
        ("", ""),
    ],
)
def test_an_errors_words_are_cleaned(said: str, kept: str) -> None:
    error = ProviderError(ErrorCode.PROVIDER_ERROR, said, provider_code=said)
    assert (error.message, str(error), error.provider_code) == (kept, kept, kept)


def test_an_error_without_a_code_of_the_provider_has_none() -> None:
    assert ProviderError(ErrorCode.PROVIDER_ERROR, "no").provider_code is None


@given(st.text(st.characters(), max_size=2 * MAX_MESSAGE))
def test_what_is_cleaned_can_be_stored_anywhere(text: str) -> None:
    kept = clean(text)
    assert "\x00" not in kept
    assert len(kept) <= MAX_MESSAGE
    assert kept.encode().decode() == kept


@pytest.mark.parametrize("good", ["a", "x" * MAX_ID, "models/veo/operations/1", "Größe 1", "\N{FOX FACE}"])
def test_an_operations_id_is_a_printable_text(good: str) -> None:
    assert Operation(good).id == good


@pytest.mark.parametrize("bad", ["", "x" * (MAX_ID + 1), "a\x00", "a\nb", "a\tb", "\ud800", "\x7f", "\u2028"])
def test_an_id_that_is_no_decent_text_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="1 to 500 printable characters"):
        Operation(bad)


def test_data_of_an_operation_is_bounded_and_decent() -> None:
    given = {
        "model": "m",
        "half": "\ud800",
        "nul": "https://a.test/\x00",
        "long": "x" * 20_000,
        "url": "https://a.test/",
    }
    assert Operation("a", given).data == {"model": "m", "url": "https://a.test/"}
    many = Operation("a", {f"name{number}": "x" * 1000 for number in range(100)})
    assert 10 < len(many.data) < 17
    assert len(json.dumps(many.data)) <= MAX_DATA


@pytest.mark.parametrize("mime_type", ["video/mp4", "video/mp4; codecs=avc1", "application/octet-stream", None])
def test_a_type_of_a_file_is_kept(mime_type: str | None) -> None:
    assert Output("https://a.test/", mime_type=mime_type).mime_type == mime_type


@pytest.mark.parametrize("mime_type", ["", "mp4", "video/", "a\x00/b", "video/\ud800", "video/" + "x" * 300000])
def test_a_type_that_is_none_is_dropped(mime_type: str) -> None:
    assert Output("https://a.test/", mime_type=mime_type).mime_type is None


def test_an_unknown_status_is_cleaned() -> None:
    assert ProviderStatus(Phase.RUNNING, unknown_status="a\x00\ud800").unknown_status == "a?"


def test_a_submit_waits_an_hour_unless_its_caller_is_less_patient() -> None:
    """SUBMIT_TIMEOUT bounds it; a shorter bound down here would call a slow provider's answer unknown."""
    assert inspect.signature(submit_once).parameters["deadline"].default == 3600.0
