"""Operations on generations."""

from __future__ import annotations

from pipeline.api.openapi.common import (
    ABOUT_IT,
    APPLIED,
    BODY,
    GENERATION_ID,
    IDEMPOTENCY_KEY,
    LIMIT,
    LOCATION,
    MISSING,
    NEXT,
    PREFER,
    RETRY_AFTER,
    TEXT,
    TIME,
    WRITES,
)
from pipeline.api.openapi.parts import Header, Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.lifecycle import GenerationStatus
from pipeline.schemas.batch import GenerationOrBatch
from pipeline.schemas.explain import Explanation
from pipeline.schemas.operations import Redrive
from pipeline.schemas.requests import GenerationRequest, TokenCreate
from pipeline.schemas.responses import Generation, GenerationList, ReadToken, RedrivenGeneration, Timeline

TAG = "generations"
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
        " `Idempotency-Key`, or with the same `generationId`, as often as you like. An array of up to 100 is kept in"
        " one commit and answered item by item: what is wrong with one hinders no other."
    ),
    parameters=(IDEMPOTENCY_KEY, PREFER),
    body=GenerationRequest,
    example=EXAMPLE,
    replies={
        202: Reply(
            "It is kept, and will be made (of an array: all are).",
            json_of(GenerationOrBatch),
            {"Location": LOCATION, "Retry-After": RETRY_AFTER, "Preference-Applied": APPLIED},
            ABOUT_IT,
        ),
        200: Reply(
            "This request was made before, or has ended while it waited: the generation as it is now. Of an array:"
            " some are not new.",
            json_of(GenerationOrBatch),
            {
                "Location": LOCATION,
                "Idempotency-Replayed": Header({"type": "string", "const": "true"}, "it is a repeat"),
                "Retry-After": RETRY_AFTER,
                "Preference-Applied": APPLIED,
            },
            ABOUT_IT,
        ),
    },
    problems=(
        *BODY,
        *WRITES,
        "unsupported_parameters",
        "unknown_provider",
        "provider_not_configured",
        "webhook_not_allowed",
        "spend_cap",
        "gone",
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
        LIMIT,
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
        Parameter(
            "deleted", "query", {"type": "string", "enum": ["true", "false"], "default": "false"}, "the tombstones"
        ),
    ),
    replies={
        200: Reply(
            "The page.",
            json_of(GenerationList),
            {"Link": NEXT},
            {
                "next": Link("listGenerations", {"after": "$response.body#/nextCursor"}),
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
    parameters=(
        GENERATION_ID,
        PREFER,
        Parameter("If-None-Match", "header", {"type": "string"}, "the `ETag` that you have: 304 if it is current"),
    ),
    replies={
        200: Reply(
            "The generation as it is now.",
            json_of(Generation),
            {
                "ETag": Header({"type": "string"}, "changes with anything that is shown", always=True),
                "Retry-After": RETRY_AFTER,
                "Preference-Applied": APPLIED,
            },
            {name: link for name, link in ABOUT_IT.items() if name != "get"},
        ),
        304: Reply(
            "What you have is current.",
            headers={"ETag": Header({"type": "string"}, "the same", always=True), "Retry-After": RETRY_AFTER},
        ),
    },
    problems=MISSING,
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
    problems=(*MISSING, *WRITES),
)

REDRIVE = Operation(
    "redriveGeneration",
    "POST",
    "/api/generations/{id}/redrive",
    TAG,
    "Let a failed generation go on where it failed",
    scope=Scope.SUBMIT,
    description=(
        "What the provider made is stored, what it took is polled, and only where nothing was taken is a new submission"
        " made. Where an earlier one may have cost something, that needs `allowRepay`. `dryRun` changes nothing."
    ),
    parameters=(GENERATION_ID,),
    body=Redrive,
    body_required=False,
    example={"dryRun": True},
    replies={
        200: Reply("What would be done (`dryRun`).", json_of(RedrivenGeneration), links={"get": ABOUT_IT["get"]}),
        202: Reply(
            "It goes on, as a new run.",
            json_of(RedrivenGeneration),
            {
                "Location": Header({"type": "string"}, "the path of the generation", always=True),
                "Retry-After": RETRY_AFTER,
            },
            ABOUT_IT,
        ),
    },
    problems=(*MISSING, "not_redrivable", "repay_needed", "spend_cap", *BODY, *WRITES),
)

DELETE = Operation(
    "deleteGeneration",
    "DELETE",
    "/api/generations/{id}",
    TAG,
    "Delete what a generation said and made",
    scope=Scope.SUBMIT,
    description="Its words and its files go; its tombstone stays, so that nothing is paid for anew under the same id.",
    parameters=(GENERATION_ID,),
    replies={204: Reply("It is gone, now or before.")},
    problems=("not_found", "not_ended", "storage_unavailable", *WRITES),
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
    problems=(*MISSING, "too_many_watchers"),
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
    problems=(*MISSING, *BODY),
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
    problems=(*MISSING, "not_ready", "video_gone", "range_not_satisfiable", "storage_unavailable"),
)

EXPLAIN = Operation(
    "explainGeneration",
    "GET",
    "/api/generations/{id}/explain",
    TAG,
    "Why it waits or what it does just now, and what to do",
    {200: Reply("The explanation.", json_of(Explanation), links=ABOUT_IT)},
    scope=Scope.READ,
    description=(
        "A cap, fairness, a pause, money, a rate, no worker, a poll that is due, a held call, a webhook under way: in"
        " words, and as fields, with its place in line and its expected start while it waits."
    ),
    parameters=(GENERATION_ID,),
    problems=MISSING,
)

OPERATIONS = (CREATE, LIST, GET, CANCEL, REDRIVE, DELETE, EVENTS, EXPLAIN, CONTENT, TOKEN)
