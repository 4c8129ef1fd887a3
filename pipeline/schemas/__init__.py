"""The bodies of requests and answers, camelCase on the wire.

::

    requests     what clients send, as the models that validate it
    views        rows as they are shown
"""

from pipeline.schemas.requests import (
    IMAGE_TYPES,
    OUR_PREFIX,
    Body,
    GenerationCreate,
    ImageInput,
    Parameters,
    TokenCreate,
    WebhookInput,
    video_request,
)
from pipeline.schemas.views import generation_view, iso, timeline_view

__all__ = [
    "IMAGE_TYPES",
    "OUR_PREFIX",
    "Body",
    "GenerationCreate",
    "ImageInput",
    "Parameters",
    "TokenCreate",
    "WebhookInput",
    "generation_view",
    "iso",
    "timeline_view",
    "video_request",
]
