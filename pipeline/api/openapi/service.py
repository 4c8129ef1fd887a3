"""Operations on the service itself, and what providers call."""

from __future__ import annotations

from pipeline.api.openapi.parts import Operation, Parameter, Reply, json_of
from pipeline.api.problems import TITLES
from pipeline.schemas.responses import Health, Readiness

TAG = "service"
PROVIDERS = "providers"

HEALTH = Operation(
    "healthz", "GET", "/healthz", TAG, "Does the process answer?", {200: Reply("It does.", json_of(Health))}
)

READY = Operation(
    "readyz",
    "GET",
    "/readyz",
    TAG,
    "Is everything there that work needs?",
    {
        200: Reply("Yes: the database answers, its schema fits, a worker is alive.", json_of(Readiness)),
        503: Reply("No; `checks` says what is missing.", json_of(Readiness)),
    },
)

DOCUMENT = Operation(
    "getOpenApi",
    "GET",
    "/openapi.json",
    TAG,
    "This document",
    {200: Reply("OpenAPI 3.1.", json_of({"type": "object", "required": ["openapi", "info", "paths"]}))},
)

PAGE = Operation(
    "getDocs",
    "GET",
    "/docs",
    TAG,
    "This document as a page",
    {200: Reply("HTML that loads nothing from elsewhere.", {"text/html": {"type": "string"}})},
)

EXPLAIN = Operation(
    "explainProblem",
    "GET",
    "/problems/{code}",
    TAG,
    "What a problem's `type` points at",
    {200: Reply("One sentence.", {"text/plain": {"type": "string"}})},
    parameters=(Parameter("code", "path", {"type": "string", "enum": list(TITLES)}, "the problem's `code`"),),
    problems=("not_found",),
)

CALLBACK = Operation(
    "ringCallback",
    "POST",
    "/callbacks/{provider}/{token}",
    PROVIDERS,
    "A provider rings",
    {200: Reply("The ring is kept, whether it is the first or a repeat.", json_of({"type": "object"}))},
    description="At the address that the provider was given; what it says is looked up at the provider's own API.",
    parameters=(
        Parameter("provider", "path", {"type": "string", "pattern": "^[a-z0-9_-]{1,64}$"}, "the provider's name"),
        Parameter("token", "path", {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,500}$"}, "the sealed address"),
    ),
    body={"type": "object"},
    body_required=False,
    problems=(
        "not_found",
        "callback_refused",
        "callback_unverified",
        "body_too_large",
        "database_unavailable",
        "overloaded",
        "commit_unknown",
    ),
)

OPERATIONS = (HEALTH, READY, DOCUMENT, PAGE, EXPLAIN, CALLBACK)
