"""The tables. Times are integers: milliseconds since 1970 by the database's clock. Money is integer micro-USD. JSON is
text.

`queue` alone writes `job`, `ledger` alone writes `submission`, `outbox` alone writes `webhook_*`. The migrations
create what is declared here; a test compares the two.
"""

from pipeline.models.generations import CallbackRow, Generation, Submission, Timeline
from pipeline.models.jobs import Job, Lane, WorkerRow
from pipeline.models.service import ApiKey, HostClock, Metric
from pipeline.models.webhooks import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookRecovery,
    WebhookSecret,
)

DEFAULT_TENANT = "default"

__all__ = [
    "DEFAULT_TENANT",
    "ApiKey",
    "CallbackRow",
    "Generation",
    "HostClock",
    "Job",
    "Lane",
    "Metric",
    "Submission",
    "Timeline",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookRecovery",
    "WebhookSecret",
    "WorkerRow",
]
