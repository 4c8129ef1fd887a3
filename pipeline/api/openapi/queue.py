"""Operations on the queue, for operators."""

from __future__ import annotations

from pipeline.api.openapi.parts import Operation, Reply, json_of
from pipeline.credentials import Scope
from pipeline.schemas.queue import QueueStatus

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

OPERATIONS = (STATUS, METRICS)
