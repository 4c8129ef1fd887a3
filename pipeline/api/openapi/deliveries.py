"""Operations on webhook deliveries."""

from __future__ import annotations

from pipeline.api.openapi.common import LIMIT, NEXT, TEXT, TIME, WRITES
from pipeline.api.openapi.parts import Header, Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.deliveries import DeliveryList, DeliveryWithAttempts
from webhooks.events import EventType

TAG = "deliveries"
PATH = "/api/webhooks/deliveries"
ID = Parameter("id", "path", {"type": "string", "pattern": "^dlv_[0-9A-Za-z]{1,60}$"}, "the delivery's id")
BY_ID = {"id": "$response.body#/id"}

LIST = Operation(
    "listDeliveries",
    "GET",
    PATH,
    TAG,
    "A page of webhook deliveries, newest first",
    {
        200: Reply(
            "The page.",
            json_of(DeliveryList),
            {"Link": NEXT},
            {"next": Link("listDeliveries", {"after": "$response.body#/nextCursor"})},
        )
    },
    scope=Scope.READ,
    parameters=(
        LIMIT,
        Parameter("after", "query", {"type": "string", "format": "delivery-cursor"}, "`nextCursor` of the page before"),
        Parameter("endpoint", "query", TEXT, "to this endpoint"),
        Parameter(
            "state",
            "query",
            {"type": "string", "enum": ["pending", "delivered", "dead", "cancelled"]},
            "what became of them",
        ),
        Parameter("type", "query", {"type": "string", "enum": list(EventType)}, "of this event"),
        Parameter("generation", "query", TEXT, "of this generation, by our id"),
        Parameter("since", "query", TIME, "younger than this"),
    ),
)

GET = Operation(
    "getDelivery",
    "GET",
    f"{PATH}/{{id}}",
    TAG,
    "One delivery with its attempts",
    {
        200: Reply(
            "The delivery as it is now.",
            json_of(DeliveryWithAttempts),
            links={"redeliver": Link("redeliver", BY_ID)},
        )
    },
    scope=Scope.READ,
    parameters=(ID,),
    problems=("not_found",),
)

REDELIVER = Operation(
    "redeliver",
    "POST",
    f"{PATH}/{{id}}/redeliver",
    TAG,
    "Send the same event once more",
    {
        202: Reply(
            "A delivery of its own, due now. The event keeps its id: who has it already can tell.",
            json_of(DeliveryWithAttempts),
            {"Location": Header({"type": "string"}, "the path of the new delivery", always=True)},
            {"get": Link("getDelivery", BY_ID)},
        )
    },
    scope=Scope.SUBMIT,
    parameters=(ID,),
    problems=("not_found", "gone", "request_in_progress", *WRITES),
)

OPERATIONS = (LIST, GET, REDELIVER)
