"""What our files are called in storage. Pure.

A video is `TENANT/gen_.../sub_....mp4`, an input picture `inputs/TENANT/gen_...`, with `.last` behind it where it is
the one to end with. A bucket may hold other things too:
whatever is not called so is not ours, and nobody here lists, aborts or deletes it.
"""

from __future__ import annotations

import re

_TENANT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_OURS = re.compile(
    rf"{_TENANT}/(?P<video>gen_[0-9a-f]{{32}})/sub_[0-9a-f]{{32}}\.mp4|inputs/{_TENANT}/(?P<input>gen_[0-9a-f]{{32}})(?:\.last)?"
)


def video_key(tenant: str, generation_id: str, token: str) -> str:
    """Where the video of a submission goes; written once, so a late or doubled upload changes nothing."""
    return f"{tenant}/{generation_id}/{token}.mp4"


def input_key(tenant: str, generation_id: str) -> str:
    """Where a picture goes that came with a request as bytes."""
    return f"inputs/{tenant}/{generation_id}"


def last_input_key(tenant: str, generation_id: str) -> str:
    """Where the picture goes that the video is to end with."""
    return f"{input_key(tenant, generation_id)}.last"


def generation_of(key: str) -> str | None:
    """The id of the generation that a key belongs to, or None if we never call a file so."""
    found = _OURS.fullmatch(key)
    return None if found is None else found["video"] or found["input"]


def is_ours(key: str) -> bool:
    """Whether we could have made this key."""
    return generation_of(key) is not None
