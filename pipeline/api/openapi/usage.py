"""Operations on what was paid."""

from __future__ import annotations

from pipeline.api.openapi.common import GENERATION_ID, MISSING, TEXT, TIME
from pipeline.api.openapi.parts import Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.usage import SubmissionList, Usage

TAG = "usage"

USAGE = Operation(
    "getUsage",
    "GET",
    "/api/usage",
    TAG,
    "What was submitted and what it cost, by user, provider, model or day",
    {200: Reply("The dearest groups, and the sum of all.", json_of(Usage))},
    scope=Scope.ADMIN,
    description=(
        "Of the last 30 days unless asked otherwise, 400 days at most. A key that is bound to a tenant sees that"
        " tenant's; the operator sees all, or one `tenant`."
    ),
    parameters=(
        Parameter(
            "groupBy",
            "query",
            {"type": "string", "enum": ["user", "provider", "model", "day"], "default": "provider"},
            "what it is added up by",
        ),
        Parameter("since", "query", TIME, "submitted at or after this"),
        Parameter("until", "query", TIME, "submitted before this"),
        Parameter("tenant", "query", TEXT, "of this tenant"),
        Parameter(
            "limit",
            "query",
            {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
            "how many groups",
        ),
    ),
)

SUBMISSIONS = Operation(
    "listSubmissions",
    "GET",
    "/api/generations/{id}/submissions",
    TAG,
    "What was paid for a generation, call by call",
    {200: Reply("Every possibly-paid call, in whichever run, oldest first.", json_of(SubmissionList))},
    scope=Scope.READ,
    parameters=(GENERATION_ID,),
    problems=MISSING,
)

OPERATIONS = (USAGE, SUBMISSIONS)
