"""The OpenAPI document, from the models that validate and a table of operations that a test compares with the routes.

::

    parts                        what an operation is made of
    generations, service, ...    the table of operations, by resource
    build                        the document
    page                         the document as HTML
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pipeline import __version__
from pipeline.api.openapi import (
    deliveries,
    endpoints,
    generations,
    held,
    offers,
    queue,
    recoveries,
    service,
    stream,
    usage,
    users,
)
from pipeline.api.openapi.build import build
from pipeline.api.openapi.page import render
from pipeline.schemas.responses import WebhookEvent
from webhooks.events import EventType

OPERATIONS = (
    *generations.OPERATIONS,
    *offers.OPERATIONS,
    *held.OPERATIONS,
    *queue.OPERATIONS,
    *users.OPERATIONS,
    *usage.OPERATIONS,
    *endpoints.OPERATIONS,
    *deliveries.OPERATIONS,
    *recoveries.OPERATIONS,
    *stream.OPERATIONS,
    *service.OPERATIONS,
)

WEBHOOKS: dict[EventType, str] = {
    EventType.COMPLETED: "A video is ready",
    EventType.FAILED: "A generation failed",
    EventType.CANCELLED: "A generation was cancelled",
    EventType.PROCESSING: "A provider took the order (opt-in)",
    EventType.PROGRESS: "A generation got on (opt-in)",
    EventType.HELD: "The outcome of a paid call is unknown for now (opt-in)",
    EventType.EXPIRED: "A video was removed at its `expiresAt` (opt-in)",
}

INFO = {
    "title": "Dailies",
    "version": __version__,
    "description": (
        "Post a prompt; a video provider is paid once; the video is kept in your own storage, and a signed webhook"
        " tells your app. Problems are `application/problem+json` with a `code`. Members and parameters that do not"
        " exist are refused: a typo costs money."
    ),
}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document. It is the same for every service of this version."""
    return build(INFO, OPERATIONS, {name.value: (text, WebhookEvent) for name, text in WEBHOOKS.items()})


@cache
def page() -> str:
    """The document as a page."""
    return render(document())
