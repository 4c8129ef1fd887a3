"""Our files have names of their own, in a bucket that may hold anything."""

import pytest

from pipeline.ids import new_id
from pipeline.names import generation_of, input_key, is_ours, video_key
from pipeline.storage.base import valid_key

GENERATION, TOKEN = new_id("gen", 1, bytes), new_id("sub", 1, bytes)


@pytest.mark.parametrize("tenant", ["default", "acme", "inputs", "a.b-c_d"])
def test_what_we_name_is_ours_and_says_whose_it_is(tenant: str) -> None:
    for key in (video_key(tenant, GENERATION, TOKEN), input_key(tenant, GENERATION)):
        assert generation_of(valid_key(key)) == GENERATION


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a.mp4",
        "somebody/else.mp4",
        f"default/{GENERATION}",
        f"default/{GENERATION}/poster.jpg",
        f"x/default/{GENERATION}/{TOKEN}.mp4",
        f"default/gen_1/{TOKEN}.mp4",
        f"inputs/{GENERATION}",
        f"default/{GENERATION}/{TOKEN}.mp4\n",
    ],
)
def test_everything_else_is_not(key: str) -> None:
    assert not is_ours(key)
