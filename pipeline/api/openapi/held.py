"""Operations on paid calls of which nobody can tell what became."""

from __future__ import annotations

from pipeline.api.openapi.common import ABOUT_IT, BODY, GENERATION_ID, LIMIT, MISSING, NEXT, WRITES
from pipeline.api.openapi.parts import Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.held import HeldList, Resolve
from pipeline.schemas.responses import Generation

TAG = "held"

HELD = Operation(
    "listHeld",
    "GET",
    "/api/held",
    TAG,
    "Paid calls whose outcome nobody knows, explained",
    {
        200: Reply(
            "A page, the oldest first.",
            json_of(HeldList),
            {"Link": NEXT},
            {"next": Link("listHeld", {"after": "$response.body#/nextCursor"})},
        )
    },
    scope=Scope.ADMIN,
    description=(
        "What happened, what was tried, what can still come by itself and until when, what follows then, the amount at"
        " stake, and what a person can do. The operator sees those of all tenants."
    ),
    parameters=(
        LIMIT,
        Parameter("after", "query", {"type": "string", "format": "held-cursor"}, "`nextCursor` of the page before"),
    ),
)

RESOLVE = Operation(
    "resolveGeneration",
    "POST",
    "/api/generations/{id}/resolve",
    TAG,
    "Say what became of a paid call",
    {
        200: Reply("The generation as it is then.", json_of(Generation), links={"get": ABOUT_IT["get"]}),
        204: Reply("Written to the ledger; the generation itself was removed long ago."),
    },
    scope=Scope.ADMIN,
    description=(
        "`accepted`: the provider has it; the operation is looked up with our own key, then polled. `not_taken`: it"
        " surely has not; the call is closed at no cost and a new one follows. `abandon`: nobody will know; the"
        " generation fails with `submit_unknown`. The timeline says who decided. Whatever is learned later is still"
        " written to the ledger."
    ),
    parameters=(GENERATION_ID,),
    body=Resolve,
    example={"as": "accepted", "operation": "req_8f14e45f"},
    problems=(
        *MISSING,
        "not_held",
        "still_under_way",
        "operation_unknown",
        "operation_taken",
        "provider_not_configured",
        "provider_unreachable",
        *BODY,
        *WRITES,
    ),
)

OPERATIONS = (HELD, RESOLVE)
