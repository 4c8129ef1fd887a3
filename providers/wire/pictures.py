"""Pictures as providers take them inside JSON. Pure."""

from __future__ import annotations

import base64

from providers.base import ErrorCode, Media, ProviderError


def picture_url(picture: Media) -> str:
    """The picture's own URL, or its bytes as a data URI. Raises ProviderError for neither."""
    if picture.data is not None:
        return f"data:{picture.mime_type or 'image/png'};base64,{base64.b64encode(picture.data).decode()}"
    if picture.url is None:
        raise ProviderError(ErrorCode.INVALID_REQUEST, "a picture is a URL or bytes", billed=False)
    return picture.url
