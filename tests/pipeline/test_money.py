"""Sums of money in words, and caps as they are set."""

from __future__ import annotations

import pytest

from pipeline.money import caps_of, micros_of, usd
from pipeline.spending import Bound, Cap, Caps

USD = 1_000_000


@pytest.mark.parametrize(
    ("text", "micros"),
    [("20", 20 * USD), ("0.5", 500_000), (" 0.000001 ", 1), ("0", 0), ("none", None), ("NONE", None)],
)
def test_a_sum_is_dollars_or_none(text: str, micros: int | None) -> None:
    assert micros_of(text) == micros


@pytest.mark.parametrize("text", ["", "-1", "ten", "1e400", "nan", "inf", "0.0000001", "1,5", "99999999999", "20 USD"])
def test_what_is_no_sum_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="US dollars"):
        micros_of(text)


def test_providers_have_a_sum_each_or_by_name() -> None:
    assert caps_of("20") == {"*": 20 * USD}
    assert caps_of("fal:50, runway:none,*:10") == {"fal": 50 * USD, "runway": None, "*": 10 * USD}
    for wrong in ("", "fal:", ":5", "fal:5,fal:6", "1,2", "fal:x"):
        with pytest.raises(ValueError, match=r"."):
            caps_of(wrong)


@pytest.mark.parametrize(
    ("micros", "text"), [(400_000, "0.40"), (5, "0.000005"), (1_234_560_000, "1234.56"), (-10_000, "-0.01")]
)
def test_sums_are_written_in_dollars(micros: int, text: str) -> None:
    assert usd(micros) == f"{text} USD"


def test_default_caps_do_not_count_play_money_and_chosen_ones_do() -> None:
    texts = {"user": "5", "providers": "20", "service": "50"}
    default = Caps.of_texts(**texts, chosen=[], play=["mock"])
    assert (default.binding("mock"), len(default.binding("fal"))) == ([], 3)
    chosen = Caps.of_texts(**texts, chosen=[Bound.USER], play=["mock"])
    assert chosen.binding("mock") == [(Bound.USER, Cap(5 * USD, play=True))]
