"""Operations on the queue, for operators."""

from __future__ import annotations

from pipeline.api.openapi.common import BODY, LIMIT, NEXT, TEXT, WRITES
from pipeline.api.openapi.parts import Link, Operation, Parameter, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.operations import DeadRedrive, Pause, Resume
from pipeline.schemas.queue import DeadList, DeadRedriven, LaneState, QueueStatus

TAG = "queue"

STATUS = Operation(
    "getQueueStatus",
    "GET",
    "/api/queue/status",
    TAG,
    "What waits, what runs, what is stuck and why",
    {200: Reply("The queue just now, and how the last hour went.", json_of(QueueStatus))},
    scope=Scope.ADMIN,
    description="A key that is bound to a tenant is shown that tenant's counts, without lanes, workers and last hour.",
)

METRICS = Operation(
    "getMetrics",
    "GET",
    "/metrics",
    TAG,
    "The same for Prometheus",
    {200: Reply("Prometheus' text format.", {"text/plain": {"type": "string"}})},
    scope=Scope.ADMIN,
    description="For the operator alone: a key of API_KEY. Every process gives the same answer: scrape one address.",
)

_CURSOR = {"type": "string", "format": "dead-cursor"}

DEAD = Operation(
    "listDeadLetters",
    "GET",
    "/api/queue/dead",
    TAG,
    "What was given up, and why",
    {
        200: Reply(
            "A page, those that died last first; with `group=error` one line per kind, lane and error.",
            json_of(DeadList),
            {"Link": NEXT},
            {"next": Link("listDeadLetters", {"after": "$response.body#/nextCursor"})},
        )
    },
    scope=Scope.ADMIN,
    parameters=(
        LIMIT,
        Parameter("after", "query", _CURSOR, "`nextCursor` of the page before"),
        Parameter("group", "query", {"type": "string", "enum": ["error"]}, "count what died of the same"),
        Parameter("kind", "query", {"type": "string", "enum": ["generation", "delivery"]}, "of this kind"),
        Parameter("errorCode", "query", TEXT, "that died of this"),
        Parameter("lane", "query", TEXT, "in this lane; or, instead:"),
        Parameter("provider", "query", TEXT, "in the lane of this provider"),
        Parameter("endpoint", "query", TEXT, "in the lane of this endpoint"),
    ),
)

DEAD_REDRIVE = Operation(
    "redriveDeadLetters",
    "POST",
    "/api/queue/dead/redrive",
    TAG,
    "Set dead letters going again",
    {
        200: Reply(
            "What went on, and what was refused; more is left while there is a `nextCursor`.", json_of(DeadRedriven)
        )
    },
    scope=Scope.ADMIN,
    description="By their ids, by what they died of, or all. Nothing is paid again unless `allowRepay` says so.",
    body=DeadRedrive,
    example={"errorCode": "webhook_status", "kind": "delivery", "dryRun": True},
    problems=(*BODY, *WRITES),
)

PAUSE = Operation(
    "pauseQueue",
    "POST",
    "/api/queue/pause",
    TAG,
    "Start nothing new",
    {200: Reply("The lane as it is now.", json_of(LaneState), links={"resume": Link("resumeQueue", {})})},
    scope=Scope.ADMIN,
    description=(
        "On the road to one provider or endpoint, for one user, or anywhere. What runs goes on, as deliveries do (not"
        " those to a paused endpoint). A longer pause is never cut short. A tenant's key pauses users of its tenant;"
        " all else is the operator's: a key of API_KEY."
    ),
    body=Pause,
    body_required=False,
    example={"lane": "provider:mock", "seconds": 600, "reason": "invoice overdue"},
    problems=(*BODY, *WRITES),
)

RESUME = Operation(
    "resumeQueue",
    "POST",
    "/api/queue/resume",
    TAG,
    "Start again",
    {200: Reply("The lane, which is open now.", json_of(LaneState))},
    scope=Scope.ADMIN,
    description="However it was paused, by the same names. A tenant's key resumes users of its tenant.",
    body=Resume,
    body_required=False,
    example={"lane": "provider:mock"},
    problems=(*BODY, *WRITES),
)

OPERATIONS = (STATUS, DEAD, DEAD_REDRIVE, PAUSE, RESUME, METRICS)
