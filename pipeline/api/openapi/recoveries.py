"""Operations on recoveries: sending again all that failed."""

from __future__ import annotations

from pipeline.api.openapi.common import BODY, LIMIT, NEXT, WRITES
from pipeline.api.openapi.parts import Header, Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.recoveries import Recover, Recovery, RecoveryList

TAG = "deliveries"
PATH = "/api/webhooks/recoveries"
GET_LINK = {"get": Link("getRecovery", {"id": "$response.body#/id"})}

RECOVER = Operation(
    "recoverDeliveries",
    "POST",
    "/api/webhooks/recover",
    TAG,
    "Send all again that failed since a time",
    {
        202: Reply(
            "The recovery. A worker carries it out, portion by portion; a restart repeats nothing.",
            json_of(Recovery),
            {"Location": Header({"type": "string"}, "the path of the recovery", always=True)},
            GET_LINK,
        )
    },
    scope=Scope.ADMIN,
    description=(
        "Of deliveries that were made since then: what is dead gets a new schedule, what waits for its next try goes"
        " now. Events keep their ids. Endpoints that were switched off are skipped, unless one is named that its"
        " failures had switched off or paused: that is opened."
    ),
    body=Recover,
    example={"since": "2026-11-22T14:00:00Z", "endpoint": "ep_default"},
    problems=(*BODY, *WRITES),
)

LIST = Operation(
    "listRecoveries",
    "GET",
    PATH,
    TAG,
    "A page of recoveries, newest first",
    {
        200: Reply(
            "The page.",
            json_of(RecoveryList),
            {"Link": NEXT},
            {"next": Link("listRecoveries", {"after": "$response.body#/nextCursor"})},
        )
    },
    scope=Scope.READ,
    parameters=(
        LIMIT,
        Parameter("after", "query", {"type": "string", "format": "recovery-cursor"}, "`nextCursor` of the page before"),
    ),
)

GET = Operation(
    "getRecovery",
    "GET",
    f"{PATH}/{{id}}",
    TAG,
    "How far a recovery is",
    {200: Reply("The recovery as it is now.", json_of(Recovery))},
    scope=Scope.READ,
    parameters=(
        Parameter("id", "path", {"type": "string", "pattern": "^rcv_[0-9A-Za-z]{1,60}$"}, "the recovery's id"),
    ),
    problems=("not_found",),
)

OPERATIONS = (RECOVER, LIST, GET)
