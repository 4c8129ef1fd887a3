"""Pictures as providers take them inside JSON. Pure."""

from __future__ import annotations

import base64

from providers.base import Media


def picture_url(picture: Media) -> str:
    """The picture's own URL, or its bytes as a data URI. Raises ValueError for a picture without either."""
    if picture.data is not None:
        return f"data:{picture.mime_type or 'image/png'};base64,{base64.b64encode(picture.data).decode()}"
    if picture.url is None:
        raise ValueError("a picture is a URL or bytes")
    return picture.url
