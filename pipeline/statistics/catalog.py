"""Every metric that is made of events, and the rules that make it. The one list: `/metrics`, docs/events.md, the
dashboard and the alerts are compared with it by tests."""

from __future__ import annotations

from pipeline.statistics.metric import Metric, Rule

LONG = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 14_400.0, 86_400.0)
"""Seconds: what a generation takes, from the mock's half second to a day in a queue."""
SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Seconds: what one request or turn takes."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MS = 0.001
MICRO = 1e-6


def _counter(name: str, text: str, *labels: str, **only: frozenset[str]) -> Metric:
    return Metric(f"dailies_{name}_total", "counter", text, labels, only=only)


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"dailies_{name}_seconds", "histogram", text, labels, bounds)


REQUESTS = _counter("http_requests", "HTTP requests answered.", "method", "route", "status", method=METHODS)
REQUEST_TIME = _histogram("http_request_duration", "Time to answer an HTTP request, streams included.", SHORT, "route")
REQUEST_ERRORS = _counter("http_request_errors", "Requests that met an error nobody foresaw.")

ENDED = _counter("generations_ended", "Runs of generations that came to their end.", "provider", "status")
FAILURES = _counter("generation_failures", "Failed generations by error code.", "provider", "code")
PHASES = _histogram("generation_phase", "Time of one phase of a generation's first run.", LONG, "provider", "phase")
DURATION = _histogram("generation_duration", "Time from the request to the end of the first run.", LONG, "status")

TURNS = _counter("turns", "Turns that were recorded.", "step", "decision")
TURN_TIME = _histogram("turn_duration", "Time that a turn ran.", SHORT, "step")
LATE = _histogram("turn_lateness", "How long after its time a job was taken.", SHORT, "step")
RETRIES = _counter("retries", "Turns that failed and will be tried again.", "step")
RESCUES = _counter("rescues", "Jobs taken over from a process whose lease had ended.", "step")
LOST = _counter("turns_lost", "Turns whose decision was dropped since the lease was lost.", "step")
CRASHED = _counter("turns_crashed", "Turns that met an error nobody foresaw.", "step")
LEASES = _counter("lease_losses", "Turns stopped because this process could not renew their lease.", "step")
POISONED = _counter("jobs_poisoned", "Jobs given up because their turns never came to a record.", "step")
WORKER_ERRORS = _counter("worker_errors", "Errors of a worker's loop, renewal, heartbeat or maintenance.")

CALLS = _counter(
    "provider_calls", "Calls of a provider, repeated blips counted in.", "provider", "operation", "outcome"
)
CALL_ERRORS = _counter("provider_errors", "Calls of a provider that failed, by error code.", "provider", "code")
CALL_TIME = _histogram("provider_call_duration", "Time of a provider's call.", SHORT, "provider", "operation")
RATE_LIMITS = _counter("provider_rate_limits", "Calls that a provider refused as too many.", "provider", "operation")
CALLBACKS = _counter("provider_callbacks", "Rings of providers.", "provider", "outcome")
MISSING = _counter("provider_missing", "Turns whose provider this worker does not know.", "provider")
FALLBACKS = _counter("fallbacks", "Generations that went on to the next provider of their chain.", "provider", "code")
PAUSES = _counter("lane_pauses", "Pauses of a lane.", "kind", kind=frozenset({"provider", "endpoint"}))

OPENED = _counter("submissions_opened", "Possibly-paid calls that were intended.", "provider")
CLOSED = _counter("submissions_closed", "Possibly-paid calls that were settled.", "provider", "outcome", "billed")
ESTIMATED = _counter("estimated_cost_usd", "List price in US dollars of calls that were intended.", "provider")
COST = _counter("cost_usd", "Settled cost in US dollars; without a reported one the estimate.", "provider", "billed")
UNCLEAR = _counter("unclear_cost_usd", "List price in US dollars of calls whose charge stayed unknown.", "provider")
SECOND = _counter("second_operations", "Operations that a provider took beside the one that was meant.", "provider")
UNRECORDED = _counter("money_unrecorded", "Tries to write a provider's answer that failed; it is tried again.")

STORED = _counter("stored_bytes", "Bytes of videos that were stored.")
STORE_TIME = _histogram("store_phase", "Time of one phase of storing a video.", SHORT, "phase")

ATTEMPTS = _counter("webhook_attempts", "Attempts to deliver a webhook.", "outcome", "reason")
ATTEMPT_TIME = _histogram("webhook_attempt_duration", "Time of one attempt.", SHORT)
DELIVERY = _histogram("webhook_delivery", "Time from the event to its delivery.", LONG)
DELIVERIES_DEAD = _counter("webhook_deliveries_dead", "Deliveries that were given up.")
DISABLED = _counter("webhook_endpoints_disabled", "Endpoints switched off by a 410 or days of failures.")

COMMITS = _counter("database_commits", "Transactions committed.")
"""The one figure without an event: read from the writer at each flush, since an event per commit would cost more than
the commit's statements."""

STEPS = ("submit", "resolve", "poll", "store", "deliver")
BY_STEP = (RETRIES, RESCUES, LOST, CRASHED, LEASES, POISONED)
"""Written as 0 before their first event: an increase from nothing is not seen by Prometheus."""

_ATTEMPT = {"step": {"deliver"}, "reason": "*"}
_OUTCOME = {"outcome": {"Complete": "delivered", "Retry": "failed", "DeadLetter": "dead", "Cancel": "cancelled"}}


def _phase(metric: Metric, name: str, value: str, **labels: str) -> Rule:
    return Rule(metric, value, MS, {"phase": f"={name}"} | labels)


RULES: dict[str, tuple[Rule, ...]] = {
    "request.done": (Rule(REQUESTS), Rule(REQUEST_TIME, "ms", MS)),
    "request.failed": (Rule(REQUEST_ERRORS),),
    "generation.ended": (
        Rule(ENDED),
        Rule(FAILURES, when={"status": {"failed"}}),
        _phase(PHASES, "wait", "wait_ms"),
        _phase(PHASES, "submit", "submit_ms"),
        _phase(PHASES, "generate", "generating_ms"),
        _phase(PHASES, "store", "storing_ms"),
        Rule(DURATION, "total_ms", MS),
    ),
    "turn.done": (
        Rule(TURNS),
        Rule(TURN_TIME, "run_ms", MS),
        Rule(LATE, "late_ms", MS),
        Rule(RETRIES, when={"decision": {"Retry"}}),
        Rule(RESCUES, when={"rescued": {"True"}}),
        Rule(STORED, "bytes", when={"step": {"store", "late"}}),
        _phase(STORE_TIME, "download", "download_ms"),
        _phase(STORE_TIME, "verify", "verify_ms"),
        _phase(STORE_TIME, "upload", "upload_ms"),
        Rule(ATTEMPTS, labels={"outcome": "decision"}, words=_OUTCOME, when=_ATTEMPT),
        Rule(ATTEMPT_TIME, "send_ms", MS, when=_ATTEMPT),
        Rule(DELIVERY, "age_ms", MS, when={"step": {"deliver"}, "decision": {"Complete"}}),
        Rule(DELIVERIES_DEAD, when={"step": {"deliver"}, "decision": {"DeadLetter"}}),
    ),
    "turn.lost": (Rule(LOST),),
    "turn.crashed": (Rule(CRASHED),),
    "worker.failed": (Rule(WORKER_ERRORS),),
    "worker.lease_lost": (Rule(LEASES),),
    "job.poisoned": (Rule(POISONED),),
    "provider.call": (
        Rule(CALLS),
        Rule(CALL_TIME, "ms", MS),
        Rule(CALL_ERRORS, when={"code": "*"}),
        Rule(RATE_LIMITS, when={"code": {"provider_rate_limited"}}),
    ),
    "provider.missing": (Rule(MISSING),),
    "callback.received": (Rule(CALLBACKS, labels={"outcome": "=received"}),),
    "callback.refused": (Rule(CALLBACKS, labels={"outcome": "=refused"}),),
    "generation.fallback": (Rule(FALLBACKS),),
    "lane.paused": (Rule(PAUSES),),
    "submission.opened": (Rule(OPENED), Rule(ESTIMATED, "estimate_micros", MICRO)),
    "submission.closed": (
        Rule(CLOSED),
        Rule(COST, "charged_micros", MICRO),
        Rule(UNCLEAR, "estimate_micros", MICRO, when={"billed": {"unknown"}}),
    ),
    "submission.second": (Rule(SECOND),),
    "money.unrecorded": (Rule(UNRECORDED),),
    "webhook.disabled": (Rule(DISABLED),),
}

COUNTED: dict[str, Metric] = {rule.metric.name: rule.metric for rules in RULES.values() for rule in rules} | {
    COMMITS.name: COMMITS
}
