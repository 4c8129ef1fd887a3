"""What we hand out we know again: signed links that end, sealed callback addresses that do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.keys import Signer

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
