"""Options of providers: what is needed, and what a key may look like."""

import pytest

from providers.options import NotConfigured, address, only, required


def test_values_come_without_space_around_them():
    assert required("x", {"api_key": " k-1\n", "url": "https://a.test"}, "api_key", "url") == ["k-1", "https://a.test"]


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_what_is_missing_is_named(value):
    with pytest.raises(NotConfigured) as caught:
        required("x", {"api_key": value}, "api_key", "url")
    assert caught.value.missing == ("api_key", "url")


@pytest.mark.parametrize("key", ["kü", "k\r\nx: y", "k\x00", "k y", "\N{ZERO WIDTH SPACE}k", "\ufeffk", "“k”"])
def test_a_key_that_no_header_could_carry_is_refused_in_words(key):
    with pytest.raises(ValueError, match="x's api_key holds characters that no key has") as caught:
        required("x", {"api_key": key}, "api_key")
    assert key not in str(caught.value)
    assert not isinstance(caught.value, NotConfigured)


def test_other_options_may_hold_any_letters():
    assert required("x", {"credentials": "/home/jürgen/my key.json"}, "credentials") == ["/home/jürgen/my key.json"]


def test_unknown_options_and_addresses_that_are_none_are_refused():
    with pytest.raises(ValueError, match="x does not know b, c"):
        only("x", {"a": "1", "c": "1", "b": "1"}, "a")
    with pytest.raises(ValueError, match="must be an http or https address"):
        address("x", {"url": "a.test"}, "url", "https://b.test")
