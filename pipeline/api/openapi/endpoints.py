"""Operations on webhook endpoints."""

from __future__ import annotations

from pipeline.api.openapi.common import BODY, LIMIT, NEXT, WRITES
from pipeline.api.openapi.parts import Header, Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.endpoints import (
    Endpoint,
    EndpointCreate,
    EndpointDisable,
    EndpointList,
    EndpointTest,
    EndpointUpdate,
    EndpointWithSecret,
    SecretRotate,
)

TAG = "endpoints"
PATH = "/api/webhooks/endpoints"
ID = Parameter("id", "path", {"type": "string", "pattern": "^ep_[0-9A-Za-z]{1,60}$"}, "the endpoint's id")
BY_ID = {"id": "$response.body#/id"}
TENANT = Parameter(
    "tenant",
    "query",
    {"type": "string", "pattern": "^(?!inputs$)[a-z0-9][a-z0-9_-]{0,62}$"},
    "of this tenant; for the operator, who else sees all and makes those of `default`",
)
ABOUT_IT = {
    "get": Link("getEndpoint", BY_ID),
    "update": Link("updateEndpoint", BY_ID),
    "rotate": Link("rotateEndpointSecret", BY_ID),
    "enable": Link("enableEndpoint", BY_ID),
    "disable": Link("disableEndpoint", BY_ID),
    "test": Link("testEndpoint", BY_ID),
    "delete": Link("deleteEndpoint", BY_ID),
}

LIST = Operation(
    "listEndpoints",
    "GET",
    PATH,
    TAG,
    "Where events go, and how it fares",
    {
        200: Reply(
            "The page.",
            json_of(EndpointList),
            {"Link": NEXT},
            {"next": Link("listEndpoints", {"after": "$response.body#/nextCursor"})},
        )
    },
    scope=Scope.ADMIN,
    description="Newest first. The one of WEBHOOK_URL is among them, for the tenant `default` and the operator.",
    parameters=(
        LIMIT,
        Parameter("after", "query", {"type": "string", "format": "endpoint-cursor"}, "`nextCursor` of the page before"),
        TENANT,
    ),
)

CREATE = Operation(
    "createEndpoint",
    "POST",
    PATH,
    TAG,
    "Send events to a URL",
    {
        201: Reply(
            "The endpoint with its secret, which is shown this once.",
            json_of(EndpointWithSecret),
            {"Location": Header({"type": "string"}, "the path of the endpoint", always=True)},
            ABOUT_IT,
        )
    },
    scope=Scope.ADMIN,
    description=(
        "Nothing is requested there now; `test` does that. A tenant has at most 20 endpoints; once it has one of its"
        " own, nothing of it goes to WEBHOOK_URL any more."
    ),
    parameters=(TENANT,),
    body=EndpointCreate,
    example={"url": "https://app.example/api/webhooks/worker", "events": ["generation.*"], "description": "production"},
    problems=("webhook_not_allowed", "too_many", *BODY, *WRITES),
)

GET = Operation(
    "getEndpoint",
    "GET",
    f"{PATH}/{{id}}",
    TAG,
    "One endpoint",
    {200: Reply("The endpoint as it is now.", json_of(Endpoint), links=ABOUT_IT)},
    scope=Scope.ADMIN,
    parameters=(ID,),
    problems=("not_found",),
)

UPDATE = Operation(
    "updateEndpoint",
    "PATCH",
    f"{PATH}/{{id}}",
    TAG,
    "Change an endpoint",
    {200: Reply("The endpoint as it is now.", json_of(Endpoint))},
    scope=Scope.ADMIN,
    description="Members that are left out stay as they are. `headers` are replaced as a whole.",
    parameters=(ID,),
    body=EndpointUpdate,
    example={"events": ["generation.completed"], "maxInFlight": 2},
    problems=("not_found", "webhook_not_allowed", "set_by_settings", "sealed_away", *BODY, *WRITES),
)

DELETE = Operation(
    "deleteEndpoint",
    "DELETE",
    f"{PATH}/{{id}}",
    TAG,
    "Send nothing there any more",
    {204: Reply("It is gone with its secrets. What was on its way there is cancelled.")},
    scope=Scope.ADMIN,
    parameters=(ID,),
    problems=("not_found", "set_by_settings", *WRITES),
)

ROTATE = Operation(
    "rotateEndpointSecret",
    "POST",
    f"{PATH}/{{id}}/rotate-secret",
    TAG,
    "Give an endpoint a new secret",
    {200: Reply("The endpoint with its new secret, which is shown this once.", json_of(EndpointWithSecret))},
    scope=Scope.ADMIN,
    description=(
        "The old ones sign beside it for `overlapSeconds`, a day unless asked otherwise. 0 is for a secret that leaked:"
        " all old ones are gone at once. At most 10 are live."
    ),
    parameters=(ID,),
    body=SecretRotate,
    body_required=False,
    example={"overlapSeconds": 3600},
    problems=("not_found", "set_by_settings", "too_many", *BODY, *WRITES),
)

TEST = Operation(
    "testEndpoint",
    "POST",
    f"{PATH}/{{id}}/test",
    TAG,
    "Send a test event and see what is answered",
    {200: Reply("How it went; also if it did not arrive.", json_of(EndpointTest))},
    scope=Scope.ADMIN,
    description=(
        "A signed `webhook.test` is sent at once, as real events are, whatever the filter says and also while the"
        " endpoint is switched off. Nothing follows from the answer."
    ),
    parameters=(ID,),
    problems=("not_found", "set_by_settings", "sealed_away", "request_in_progress"),
)

ENABLE = Operation(
    "enableEndpoint",
    "POST",
    f"{PATH}/{{id}}/enable",
    TAG,
    "Switch an endpoint on again",
    {200: Reply("The endpoint as it is now.", json_of(Endpoint))},
    scope=Scope.ADMIN,
    description="Whatever had switched it off or paused it is forgotten.",
    parameters=(ID,),
    problems=("not_found", "set_by_settings", *WRITES),
)

DISABLE = Operation(
    "disableEndpoint",
    "POST",
    f"{PATH}/{{id}}/disable",
    TAG,
    "Switch an endpoint off",
    {200: Reply("The endpoint as it is now.", json_of(Endpoint))},
    scope=Scope.ADMIN,
    description="What is due there ends dead; it is listed, and can be sent again.",
    parameters=(ID,),
    body=EndpointDisable,
    body_required=False,
    example={"reason": "moving the app"},
    problems=("not_found", *BODY, *WRITES),
)

OPERATIONS = (LIST, CREATE, GET, UPDATE, DELETE, ROTATE, TEST, ENABLE, DISABLE)
