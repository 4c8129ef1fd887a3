"""What is estimated is never less than what a request may cost; and what no catalogue may leave open."""

import pytest

from providers.base import Media, VideoRequest
from providers.catalogue import load_catalogue, read_catalogue
from providers.checks import list_price
from providers.registry import PROVIDERS

PICTURE = Media(url="https://pictures.test/a.png")
FOX = {"durations": [5, 10], "default_duration": 5, "resolutions": ["480p", "1080p"], "per_image": "0.25"}
DOCUMENT = {
    "date": "2026-11-24",
    "default_model": "fox",
    "models": {
        "fox": {**FOX, "prices": {"480p": "1", "1080p": "3"}},
        "hen": {"durations": [20], "prices": {"*": "2"}},
    },
}
CATALOGUE = read_catalogue(DOCUMENT)


@pytest.mark.parametrize(
    ("asked", "usd"),
    [
        ({"resolution": "480p"}, 5),
        ({}, 15),  # no resolution is usual: the dearest
        ({"resolution": "480p", "image": PICTURE}, 5.25),
        ({"resolution": "480p", "image": PICTURE, "last_image": PICTURE}, 5.5),
        ({"model": "hen", "image": PICTURE}, 40),
        ({"model": "owl"}, 60),
        ({"model": "owl", "duration": 4}, 12),
        ({"model": "owl", "duration": 4, "resolution": "480p"}, 12),  # of other models: this one's may cost more
        ({"model": "owl", "duration": 4, "image": PICTURE}, 12.25),
    ],
)
def test_the_list_price(asked, usd):
    assert list_price(VideoRequest("a fox", **asked), CATALOGUE) == usd * 1_000_000


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("resolution", [None, "360p", "480p", "720p", "4k"])
def test_what_the_catalogue_does_not_know_is_no_cheaper_than_anything_in_it(provider, resolution):
    catalogue = load_catalogue(provider)
    unknown = VideoRequest("x", model="zz/zz", duration=5, resolution=resolution, image=PICTURE)
    dearest = max(micros for model in catalogue.models.values() for micros in model.prices.values())
    assert list_price(unknown, catalogue) == 5 * dearest + max(model.per_image for model in catalogue.models.values())


def test_large_pictures_of_runway_are_not_priced_as_small_ones():
    catalogue = load_catalogue("runway")
    for model, least in (("seedance2", 550_000), ("seedance2_5", 800_000)):
        small = list_price(VideoRequest("x", model=model, duration=5), catalogue)
        large = list_price(VideoRequest("x", model=model, duration=5, resolution="1080p"), catalogue)
        assert large >= 5 * least > small


def test_pictures_that_are_charged_for():
    fal, openrouter = load_catalogue("fal"), load_catalogue("openrouter")
    h3 = VideoRequest("x", model="minimax/h3-max/image-to-video", image=PICTURE, last_image=PICTURE)
    assert list_price(h3, fal) == 5 * 80_000 + 2 * 74_000
    grok = VideoRequest("x", model="x-ai/grok-imagine-video", duration=1, image=PICTURE)
    assert list_price(grok, openrouter) == 50_000 + 10_000


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prices": {"*": "1"}}, "no length"),
        ({"prices": {"*": "1"}, "durations": []}, "no length"),
        ({"prices": {}, "durations": [5]}, "no price"),
        ({"prices": {"*": "1"}, "durations": [5], "per_image": "-1"}, "no price"),
        ({"prices": {"*": "1"}, "durations": [5], "per_image": "0.0000001"}, "no price"),
    ],
)
def test_a_price_that_cannot_be_reckoned_with_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        read_catalogue({**DOCUMENT, "models": {**DOCUMENT["models"], "owl": wrong}})
