"""Operations on generations."""

from __future__ import annotations

from pipeline.api.openapi.common import (
    ABOUT_IT,
    BODY,
    GENERATION_ID,
    IDEMPOTENCY_KEY,
    RETRY_AFTER,
    WRITES,
)
from pipeline.api.openapi.parts import Header, Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.lifecycle import GenerationStatus
from pipeline.schemas.requests import GenerationCreate, TokenCreate
from pipeline.schemas.responses import Generation, GenerationList, ReadToken, Timeline

TAG = "generations"
TEXT = {"type": "string", "pattern": r"^[^\u0000]*$"}
TIME = {"type": "string", "format": "date-time"}
SEEN = {"type": "string", "pattern": r"^[0-9]{1,18}(-end)?$"}

EXAMPLE = {
    "prompt": "the sea at night",
    "generationId": "order-17",
    "userId": "user_42",
    "parameters": {"duration": 6, "aspectRatio": "16:9"},
    "metadata": {"campaign": "autumn"},
}

CREATE = Operation(
    "createGeneration",
    "POST",
    "/api/generations",
    TAG,
    "Ask for a video",
    scope=Scope.SUBMIT,
    description=(
        "Answered once the order is safe on disk. Nothing is ever paid twice: repeat the same request under the same"
        " `Idempotency-Key`, or with the same `generationId`, as often as you like."
    ),
    parameters=(IDEMPOTENCY_KEY,),
    body=GenerationCreate,
    example=EXAMPLE,
    replies={
        202: Reply(
            "It is kept, and will be made.",
            json_of(Generation),
            {
                "Location": Header({"type": "string"}, "the path of the generation", always=True),
                "Retry-After": RETRY_AFTER,
            },
            ABOUT_IT,
        ),
        200: Reply(
            "This request was made before: the generation as it is now.",
            json_of(Generation),
            {
                "Location": Header({"type": "string"}, "the path of the generation", always=True),
                "Idempotency-Replayed": Header({"type": "string", "const": "true"}, "it is a repeat"),
            },
            ABOUT_IT,
        ),
    },
    problems=(
        *BODY,
        *WRITES,
        "unsupported_parameters",
        "unknown_provider",
        "webhook_not_allowed",
        "idempotency_conflict",
        "generation_id_conflict",
        "request_in_progress",
        "invalid_idempotency_key",
        "storage_unavailable",
    ),
)

LIST = Operation(
    "listGenerations",
    "GET",
    "/api/generations",
    TAG,
    "A page of generations, newest first",
    scope=Scope.READ,
    description="Narrow it by labels, too: `metadata.KEY=VALUE`, up to 16 of them. Unknown parameters are refused.",
    parameters=(
        Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "how many"),
        Parameter(
            "after",
            "query",
            {"type": "string", "format": "cursor"},
            "`nextCursor` of the page before",
        ),
        Parameter("order", "query", {"type": "string", "enum": ["desc", "asc"], "default": "desc"}, "newest first?"),
        Parameter(
            "status",
            "query",
            {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"type": "string", "enum": list(GenerationStatus)},
            },
            "one of these, written with commas",
            comma_list=True,
        ),
        Parameter("userId", "query", TEXT, "of this user"),
        Parameter("provider", "query", TEXT, "made by this provider"),
        Parameter("model", "query", TEXT, "made by this model"),
        Parameter("errorCode", "query", TEXT, "failed for this reason"),
        Parameter("generationId", "query", TEXT, "with this id, ours or the app's own"),
        Parameter("createdAfter", "query", TIME, "younger than this"),
        Parameter("createdBefore", "query", TIME, "older than this"),
    ),
    replies={
        200: Reply(
            "The page.",
            json_of(GenerationList),
            {"Link": Header({"type": "string"}, 'the next page as `rel="next"`, if there is one')},
            {
                "next": Link("listGenerations", {"after": "$response.body#/nextCursor"}),
                "first": Link("getGeneration", {"id": "$response.body#/data/0/id"}),
            },
        )
    },
)

GET = Operation(
    "getGeneration",
    "GET",
    "/api/generations/{id}",
    TAG,
    "One generation",
    scope=Scope.READ,
    token=True,
    parameters=(GENERATION_ID,),
    replies={
        200: Reply(
            "The generation as it is now.",
            json_of(Generation),
            {"Retry-After": RETRY_AFTER},
            {name: link for name, link in ABOUT_IT.items() if name != "get"},
        )
    },
    problems=("not_found",),
)

CANCEL = Operation(
    "cancelGeneration",
    "POST",
    "/api/generations/{id}/cancel",
    TAG,
    "Cancel a generation",
    scope=Scope.SUBMIT,
    description="At once if nothing was submitted yet; else the provider is told, and the end is under way.",
    parameters=(GENERATION_ID,),
    replies={
        200: Reply("It has ended, just now or before.", json_of(Generation), links={"get": ABOUT_IT["get"]}),
        202: Reply("The end is under way.", json_of(Generation), links={"get": ABOUT_IT["get"]}),
    },
    problems=("not_found", *WRITES),
)

EVENTS = Operation(
    "listGenerationEvents",
    "GET",
    "/api/generations/{id}/events",
    TAG,
    "What happened to a generation",
    scope=Scope.READ,
    token=True,
    description=(
        "Oldest first, with every attempt of its webhooks. With `Accept: text/event-stream` it is told as it happens:"
        " each line of the timeline under its own name and id, `generation` with the whole generation at the start and"
        " whenever it moves, and `end` once it has ended. Go on where you were with `Last-Event-ID`."
    ),
    parameters=(
        GENERATION_ID,
        Parameter("Last-Event-ID", "header", SEEN, "the id of the last event that you have; of a stream only"),
        Parameter("lastEventId", "query", SEEN, "the same, where no header can be set"),
    ),
    replies={
        200: Reply("The timeline.", {**json_of(Timeline), "text/event-stream": {"type": "string"}}),
        204: Reply("You have seen the end: there is nothing to come back for."),
    },
    problems=("not_found", "too_many_watchers"),
)

TOKEN = Operation(
    "createReadToken",
    "POST",
    "/api/generations/{id}/tokens",
    TAG,
    "Let a page watch this generation",
    scope=Scope.READ,
    description=(
        "A read token opens one generation, its events and its video until `expiresAt`, and nothing else. Send it as"
        " `?token=`: a browser's `EventSource` and `<video>` need no key then."
    ),
    parameters=(GENERATION_ID,),
    body=TokenCreate,
    example={"expiresIn": 600},
    replies={201: Reply("The token, and the links that hold it.", json_of(ReadToken))},
    problems=("not_found", *BODY),
)

_FILE_HEADERS = {
    "ETag": Header({"type": "string"}, "the file's SHA-256"),
    "Cache-Control": Header({"type": "string"}, "how long it may be kept"),
}

CONTENT = Operation(
    "getGenerationContent",
    "GET",
    "/api/generations/{id}/content",
    TAG,
    "The video",
    scope=Scope.READ,
    token=True,
    description="A way into the bucket, or the bytes of a local file, whole or in ranges.",
    parameters=(
        GENERATION_ID,
        Parameter("Range", "header", {"type": "string"}, "such as `bytes=0-999`; what is no range is ignored"),
    ),
    replies={
        200: Reply("The whole file.", {"video/mp4": {"type": "string", "format": "binary"}}, _FILE_HEADERS),
        206: Reply(
            "The ranges that were asked for.",
            {
                "video/mp4": {"type": "string", "format": "binary"},
                "multipart/byteranges": {"type": "string", "format": "binary"},
            },
            _FILE_HEADERS,
        ),
        302: Reply(
            "The file is in the bucket: `Location` opens it for an hour.",
            headers={"Location": Header({"type": "string"}, "a signed link", always=True)},
        ),
        304: Reply("What you have (`If-None-Match`) is current.", headers=_FILE_HEADERS),
    },
    problems=("not_found", "not_ready", "video_gone", "range_not_satisfiable", "storage_unavailable"),
)

OPERATIONS = (CREATE, LIST, GET, CANCEL, EVENTS, CONTENT, TOKEN)
