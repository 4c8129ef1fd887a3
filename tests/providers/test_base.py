"""What the common vocabulary refuses and cleans: words and ids of strangers go into databases and paths."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import MAX_ID, MAX_MESSAGE, ErrorCode, Operation, ProviderError, clean
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


def test_a_submit_waits_an_hour_unless_its_caller_is_less_patient() -> None:
    """SUBMIT_TIMEOUT bounds it; a shorter bound down here would call a slow provider's answer unknown."""
    assert inspect.signature(submit_once).parameters["deadline"].default == 3600.0
