"""The operation that tells events as they are recorded."""

from __future__ import annotations

from pipeline.api.openapi.parts import Operation, Parameter, Reply
from pipeline.credentials import Scope

EVENT = {
    "type": "object",
    "description": "One server-sent event.",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}

STREAM = Operation(
    "streamEvents",
    "GET",
    "/api/webhooks/stream",
    "deliveries",
    "Events as they are recorded, with the bytes that webhooks carry",
    {200: Reply("Server-sent events.", {"text/event-stream": EVENT})},
    scope=Scope.READ,
    description=(
        "First `ready`, whose id is where the stream begins; then one event for each that is recorded, of every type"
        " that an endpoint wants and of all ends. Its data is JSON: `id`, `type`, `generation`, `createdAt`, and"
        " `body`, the very text that is signed and sent. Whoever comes back with `after` (or `Last-Event-ID`) misses"
        " nothing, and may hear again what came up to 30 s before: an event is known by its `id`. Unless `Accept` names"
        " `text/event-stream` it ends with what there is."
    ),
    parameters=(
        Parameter(
            "after",
            "query",
            {"type": "string", "pattern": "^evt_[0-9a-f]{12,32}$"},
            "the id of the event that was heard last; else the stream begins now",
        ),
    ),
    problems=("too_many_watchers",),
)

OPERATIONS = (STREAM,)
"""One operation, that of `dailies listen`."""
