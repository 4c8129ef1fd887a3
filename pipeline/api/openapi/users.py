"""Operations on users, whom tenants name in their requests."""

from __future__ import annotations

from pipeline.api.openapi.common import BODY, LIMIT, NEXT, WRITES
from pipeline.api.openapi.endpoints import TENANT as OF_TENANT
from pipeline.api.openapi.parts import Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.users import User, UserList, UserShare

TAG = "users"
PATH = "/api/users"
NAMED = f"{PATH}/{{user}}"
USER = Parameter(
    "user",
    "path",
    {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[^\u0000]*$"},
    "as requests name him in `userId`",
)
TENANT = Parameter("tenant", "query", OF_TENANT.schema, "of this tenant; for the operator, who else means `default`")
SET = {"set": Link("setUser", {"user": "$request.path.user"}), "get": Link("getUser", {"user": "$request.path.user"})}

LIST = Operation(
    "listUsers",
    "GET",
    PATH,
    TAG,
    "Who waits, who has what in flight, and what is set for whom",
    {
        200: Reply(
            "The page.",
            json_of(UserList),
            {"Link": NEXT},
            {"next": Link("listUsers", {"after": "$response.body#/nextCursor"})},
        )
    },
    scope=Scope.ADMIN,
    description="By tenant and name: all for whom something is set, who wait, or who have something in flight.",
    parameters=(
        LIMIT,
        Parameter("after", "query", {"type": "string", "format": "user-cursor"}, "`nextCursor` of the page before"),
        OF_TENANT,
    ),
)

GET = Operation(
    "getUser",
    "GET",
    NAMED,
    TAG,
    "How it stands with one user",
    {200: Reply("The user, whether he was ever named or not.", json_of(User), links={"set": SET["set"]})},
    scope=Scope.ADMIN,
    parameters=(USER, TENANT),
)

PUT = Operation(
    "setUser",
    "PUT",
    NAMED,
    TAG,
    "Give a user his weight and his bound",
    {200: Reply("The user as he is now.", json_of(User), links={"get": SET["get"]})},
    scope=Scope.ADMIN,
    description=(
        "What is left out is as if it had never been set. What runs goes on. To pause a user: `POST /api/queue/pause`"
        ' with `"lane": "user:ID"`.'
    ),
    parameters=(USER, TENANT),
    body=UserShare,
    example={"weight": 3, "maxInFlight": 5},
    problems=(*BODY, *WRITES),
)

DELETE = Operation(
    "resetUser",
    "DELETE",
    NAMED,
    TAG,
    "Let a user have what everybody has",
    {204: Reply("Nothing is set for him any more. A pause stays as it is.")},
    scope=Scope.ADMIN,
    parameters=(USER, TENANT),
    problems=WRITES,
)

OPERATIONS = (LIST, GET, PUT, DELETE)
