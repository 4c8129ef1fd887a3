"""What we hand out we know again: signed links that end, sealed callback addresses that do not; and what we keep sealed
opens with our secrets alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.keys import Box, CannotOpen, Signer

TOKEN = "sub_01890b2c3d4e7000"


def signer(*secrets: str, purpose: str = "callback") -> Signer:
    return Signer(secrets, purpose)


def test_what_was_sealed_is_known_again_and_fits_into_a_path() -> None:
    sealed = signer("a").seal(TOKEN)
    assert sealed.startswith(f"{TOKEN}.")
    assert sealed.replace(".", "").replace("_", "").replace("-", "").isalnum()
    assert signer("a").unseal(sealed) == TOKEN


def test_after_a_rotation_the_old_seals_hold_and_new_ones_are_made_with_the_new_secret() -> None:
    before = signer("old").seal(TOKEN)
    rotated = signer("new", "old")
    assert rotated.unseal(before) == TOKEN
    assert rotated.seal(TOKEN) == signer("new").seal(TOKEN) != before
    assert signer("new").unseal(before) is None, "once the old secret is gone, so are its seals"


def test_a_subject_with_points_in_it_comes_back_whole() -> None:
    assert signer("a").unseal(signer("a").seal("v1.2.x")) == "v1.2.x"


@pytest.mark.parametrize(
    "forge",
    [
        lambda sealed: TOKEN,
        lambda sealed: f"{TOKEN}.",
        lambda sealed: "",
        lambda sealed: ".",
        lambda sealed: sealed[:-1],
        lambda sealed: f"{sealed}x",
        lambda sealed: f"{sealed[:-1]}{'B' if sealed[-1] == 'A' else 'A'}",
        lambda sealed: sealed.swapcase(),
        lambda sealed: f"other{sealed}",
        lambda sealed: sealed.replace(".", "/"),
        lambda sealed: f"{TOKEN}.schlüssel",
        lambda sealed: f"{TOKEN}.\N{FOX FACE}",
        lambda sealed: f"\x00{sealed}",
        lambda sealed: f"{sealed}.{sealed.rpartition('.')[2]}",
    ],
)
def test_a_forged_seal_opens_nothing(forge: Callable[[str], str]) -> None:
    assert signer("a").unseal(forge(signer("a").seal(TOKEN))) is None


def test_a_seal_of_another_secret_or_purpose_opens_nothing() -> None:
    assert signer("a").unseal(signer("b").seal(TOKEN)) is None
    assert signer("a").unseal(signer("a", purpose="links").seal(TOKEN)) is None


def test_a_link_that_never_ended_is_no_seal_and_a_seal_is_no_link() -> None:
    links = signer("a")
    assert links.unseal(f"{TOKEN}.{links.sign(TOKEN, 5)}") is None
    assert not links.verify(TOKEN, links.seal(TOKEN).rpartition(".")[2], 0.0)


def test_a_signer_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        signer()


# --- what is kept sealed ---------------------------------------------------------------------------------------------

PLACE = "whs_1"
TEXT = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


def box(*secrets: str, purpose: str = "webhook") -> Box:
    return Box(secrets, purpose)


def test_what_was_sealed_opens_in_its_place_and_shows_nothing() -> None:
    sealed = box("a").seal(TEXT, PLACE)
    assert box("a").open(sealed, PLACE) == TEXT
    assert TEXT not in sealed
    assert TEXT[6:] not in sealed
    assert box("a").seal(TEXT, PLACE) != sealed, "the same text never looks the same"
    assert box("a").open(box("a").seal("", PLACE), PLACE) == ""


def test_after_a_rotation_the_first_seals_and_all_open() -> None:
    before = box("old").seal(TEXT, PLACE)
    both = box("new", "old")
    assert both.open(before, PLACE) == TEXT
    assert not both.is_current(before)
    again = both.seal(TEXT, PLACE)
    assert both.is_current(again)
    assert box("new").open(again, PLACE) == TEXT
    with pytest.raises(CannotOpen, match="SECRET_KEY"):
        box("new").open(before, PLACE)


@pytest.mark.parametrize(
    "change",
    [
        lambda sealed: sealed[:-4],
        lambda sealed: sealed + "AAAA",
        lambda sealed: f"{sealed[:20]}{'B' if sealed[20] == 'A' else 'A'}{sealed[21:]}",
        lambda sealed: sealed.partition(".")[0] + ".",
        lambda sealed: sealed.partition(".")[0] + ".AAAA",
        lambda sealed: sealed.partition(".")[0] + ".\N{FOX FACE}",
        lambda sealed: sealed.replace(".", ","),
        lambda sealed: f"x{sealed}",
        lambda sealed: "",
        lambda sealed: TEXT,
    ],
)
def test_what_was_changed_does_not_open(change: Callable[[str], str]) -> None:
    with pytest.raises(CannotOpen) as caught:
        box("a").open(change(box("a").seal(TEXT, PLACE)), PLACE)
    assert TEXT not in str(caught.value)


def test_it_opens_neither_in_another_place_nor_for_another_purpose_or_secret() -> None:
    sealed = box("a").seal(TEXT, PLACE)
    for other, place in ((box("a"), "whs_2"), (box("a", purpose="links"), PLACE), (box("b"), PLACE)):
        with pytest.raises(CannotOpen):
            other.open(sealed, place)


def test_a_box_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        box()
