"""The tables. Times are integers: milliseconds since 1970 by the database's clock. Money is integer micro-USD. JSON is
text.

`queue` alone writes `job`, `ledger` alone writes `submission`, `outbox` alone writes `webhook_*`. The migrations
create what is declared here; a test compares the two.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

DEFAULT_TENANT = "default"

_Args = tuple[object, ...]


def _text(*, nullable: bool = False, primary_key: bool = False, default: str | None = None) -> str:
    return Field(sa_type=Text, nullable=nullable, primary_key=primary_key, default=default)  # type: ignore[no-any-return]


def _opt_text() -> str | None:
    return Field(default=None, sa_type=Text, nullable=True)  # type: ignore[no-any-return]


def _big(*, default: int = 0) -> int:
    return Field(default=default, sa_type=BigInteger, nullable=False)  # type: ignore[no-any-return]


def _added(default: str, kind: type = BigInteger) -> Any:
    """A column that a later migration added: its default is in the database, for the code that came before it."""
    return Field(
        default=default if kind is Text else int(default),
        sa_type=kind,
        nullable=False,
        sa_column_kwargs={"server_default": text(f"'{default}'")},
    )


def _opt_big() -> int | None:
    return Field(default=None, sa_type=BigInteger, nullable=True)  # type: ignore[no-any-return]


class Generation(SQLModel, table=True):
    """What a client asked for, and what came of it.

    `provider`, `model`, `extra` and `estimate_micros` are those of the candidate whose turn it is: `chain` lists all of
    them ([] where there is only one), and `candidate` says which. `reserved_micros` is what admission set aside for it
    and no submission has taken over yet. `duration` is the length that is asked for, in seconds. `billed` is what is
    known of the charge once it has ended, or is about to: yes, no or unknown.
    """

    __tablename__ = "generation"
    __table_args__: ClassVar[_Args] = (
        UniqueConstraint("tenant_id", "idempotency_key", name="generation_idempotency_key"),
        UniqueConstraint("tenant_id", "client_id", name="generation_client_id"),
        CheckConstraint("status <> 'completed' OR video_sha256 IS NOT NULL", name="generation_completed_has_video"),
        Index("generation_list", "tenant_id", "id"),
        Index("generation_user", "tenant_id", "user_id", "id"),
        Index(
            "generation_expires",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND expired_at IS NULL"),
            sqlite_where=text("expires_at IS NOT NULL AND expired_at IS NULL"),
        ),
        Index(
            "generation_input",
            "finished_at",
            postgresql_where=text("(input_key IS NOT NULL OR last_input_key IS NOT NULL) AND finished_at IS NOT NULL"),
            sqlite_where=text("(input_key IS NOT NULL OR last_input_key IS NOT NULL) AND finished_at IS NOT NULL"),
        ),
        Index(
            "generation_pace",
            "provider",
            "model",
            "duration",
            "generated_at",
            postgresql_where=text("generated_at IS NOT NULL"),
            sqlite_where=text("generated_at IS NOT NULL"),
        ),
        Index(
            "generation_reserved",
            "provider",
            "tenant_id",
            "user_id",
            "reserved_micros",
            postgresql_where=text("reserved_micros > 0"),
            sqlite_where=text("reserved_micros > 0"),
        ),
        Index(
            "generation_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    client_id: str | None = _opt_text()
    idempotency_key: str | None = _opt_text()
    request_hash: str = _text()
    user_id: str | None = _opt_text()
    prompt: str = _text()
    parameters: str = _text()
    labels: str = _text()
    provider: str = _text()
    model: str | None = _opt_text()
    extra: str = _added("{}", Text)
    chain: str = _added("[]", Text)
    candidate: int = _added("0", Integer)
    duration: int | None = None
    estimate_micros: int = _added("0")
    reserved_micros: int = _added("0")
    warnings: str | None = _opt_text()
    billed: str | None = _opt_text()
    priority: int = Field(default=5)
    status: str = _text()
    stage: str | None = _opt_text()
    run: int = Field(default=1)
    sequence: int = Field(default=0)
    progress: float | None = None
    operation: str | None = _opt_text()
    input_key: str | None = _opt_text()
    input_sha256: str | None = _opt_text()
    input_type: str | None = _opt_text()
    last_input_key: str | None = _opt_text()
    last_input_sha256: str | None = _opt_text()
    last_input_type: str | None = _opt_text()
    video_key: str | None = _opt_text()
    video_bytes: int | None = _opt_big()
    video_sha256: str | None = _opt_text()
    video_duration: float | None = None
    video_width: int | None = None
    video_height: int | None = None
    video_audio: int | None = None
    error_code: str | None = _opt_text()
    error_message: str | None = _opt_text()
    error_retryable: int | None = None
    webhook_url: str | None = _opt_text()
    webhook_events: str | None = _opt_text()
    created_at: int = _big()
    updated_at: int = _big()
    started_at: int | None = _opt_big()
    accepted_at: int | None = _opt_big()
    generated_at: int | None = _opt_big()
    finished_at: int | None = _opt_big()
    cancel_requested_at: int | None = _opt_big()
    expires_at: int | None = _opt_big()
    expired_at: int | None = _opt_big()
    deleted_at: int | None = _opt_big()
    redriven_at: int | None = _opt_big()
    traceparent: str | None = _opt_text()


class Job(SQLModel, table=True):
    """A row of the queue: whose turn is next, when, and who holds it. Kept under 300 bytes.

    `fallback` is 1 while another provider could be asked instead. `unfunded` is the day (since 1970, UTC) on which
    admission found no money left for it; 1 after there was some again, 0 if there always was.
    """

    __tablename__ = "job"
    __table_args__: ClassVar[_Args] = (
        UniqueConstraint("kind", "subject_id", name="job_subject"),
        CheckConstraint("(status = 'processing') = (locked_by IS NOT NULL)", name="job_lease"),
        Index(
            "job_waiting",
            "lane",
            "sort_at",
            "id",
            "unfunded",
            postgresql_where=text("status = 'waiting'"),
            sqlite_where=text("status = 'waiting'"),
        ),
        Index(
            "job_fallback",
            "lane",
            "sort_at",
            "id",
            postgresql_where=text("status = 'waiting' AND fallback = 1"),
            sqlite_where=text("status = 'waiting' AND fallback = 1"),
        ),
        Index(
            "job_pending",
            "step",
            "lane",
            "scheduled_for",
            "id",
            postgresql_where=text("status = 'pending'"),
            sqlite_where=text("status = 'pending'"),
        ),
        Index(
            "job_processing",
            "step",
            "lane",
            "locked_by",
            postgresql_where=text("status = 'processing'"),
            sqlite_where=text("status = 'processing'"),
        ),
        Index(
            "job_dead", "finished_at", postgresql_where=text("status = 'dead'"), sqlite_where=text("status = 'dead'")
        ),
        Index(
            "job_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer(), "sqlite"))
    kind: str = _text()
    subject_id: str = _text()
    tenant_id: str = _text()
    lane: str = _text()
    status: str = _text()
    step: str = _text()
    sort_at: int = _big()
    scheduled_for: int = _big()
    attempts: int = Field(default=0)
    polls: int = Field(default=0)
    claims_unrecorded: int = Field(default=0)
    fence: int = _big()
    wake_seq: int = _big()
    cancel_requested: int = Field(default=0)
    fallback: int = _added("0", Integer)
    unfunded: int = _added("0", Integer)
    was_dead: int = _added("0", Integer)
    locked_by: str | None = _opt_text()
    locked_until: int | None = _opt_big()
    finished_at: int | None = _opt_big()


class Lane(SQLModel, table=True):
    """A road to one provider or endpoint: how many may be under way, and whether it is closed for now.

    `probing` counts how often in a row the provider itself had it closed: while it is not 0, one submission is made
    at a time, until one is answered well.
    """

    __tablename__ = "lane"

    name: str = _text(primary_key=True)
    max_in_flight: int | None = None
    paused_until: int | None = _opt_big()
    paused_reason: str | None = _opt_text()
    unknown_streak: int = Field(default=0)
    probing: int = _added("0", Integer)


class Submission(SQLModel, table=True):
    """One possibly-paid call. At most one open submission per generation: the index forbids a second."""

    __tablename__ = "submission"
    __table_args__: ClassVar[_Args] = (
        UniqueConstraint("token", name="submission_token"),
        CheckConstraint(
            "outcome NOT IN ('accepted', 'succeeded') OR operation_id IS NOT NULL", name="submission_operation"
        ),
        Index(
            "submission_open",
            "generation_id",
            unique=True,
            postgresql_where=text("outcome IN ('intended', 'accepted', 'unknown')"),
            sqlite_where=text("outcome IN ('intended', 'accepted', 'unknown')"),
        ),
        Index("submission_generation", "generation_id", "id"),
        Index("submission_provider", "provider", "intended_at"),
        Index("submission_user", "tenant_id", "user_id", "intended_at"),
        Index(
            "submission_unknown",
            "intended_at",
            postgresql_where=text("outcome = 'unknown'"),
            sqlite_where=text("outcome = 'unknown'"),
        ),
    )

    id: str = _text(primary_key=True)
    generation_id: str = _text()
    tenant_id: str = _text()
    user_id: str | None = _opt_text()
    run: int = Field(default=1)
    provider: str = _text()
    model: str | None = _opt_text()
    token: str = _text()
    outcome: str = _text()
    operation_id: str | None = _opt_text()
    operation: str | None = _opt_text()
    candidate_operation_id: str | None = _opt_text()
    carries: str = _text()
    billed: str = _text(default="unknown")
    estimate_micros: int = _big()
    cost_micros: int | None = _opt_big()
    error_code: str | None = _opt_text()
    error_message: str | None = _opt_text()
    intended_at: int = _big()
    answered_at: int | None = _opt_big()
    closed_at: int | None = _opt_big()


class WebhookEndpoint(SQLModel, table=True):
    """Where events go. `secret_ref` is `settings` (WEBHOOK_SECRET) or `own`: the rows of `webhook_secret`.

    `headers` are sealed, since they may hold credentials. `failing_since` is when the first of the failures came that
    no success has ended yet.
    """

    __tablename__ = "webhook_endpoint"
    __table_args__: ClassVar[_Args] = (Index("webhook_endpoint_tenant", "tenant_id", "id"),)

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    url: str = _text()
    events: str = _text()
    secret_ref: str = _text()
    created_at: int = _big()
    disabled_at: int | None = _opt_big()
    disabled_reason: str | None = _opt_text()
    description: str | None = _opt_text()
    headers: str | None = _opt_text()
    ordered: int = _added("0", Integer)
    max_in_flight: int | None = None
    rate_per_minute: int | None = None
    failing_since: int | None = _opt_big()
    updated_at: int | None = _opt_big()
    deleted_at: int | None = _opt_big()


class WebhookSecret(SQLModel, table=True):
    """One signing secret of an endpoint, sealed by a key of SECRET_KEY. `kind` is `v1` (HMAC) or `v1a` (Ed25519)."""

    __tablename__ = "webhook_secret"
    __table_args__: ClassVar[_Args] = (Index("webhook_secret_endpoint", "endpoint_id", "id"),)

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    endpoint_id: str = _text()
    kind: str = _text()
    sealed: str = _text()
    hint: str = _text()
    created_at: int = _big()
    expires_at: int | None = _opt_big()


class WebhookRecovery(SQLModel, table=True):
    """Sending again all that failed since a time: a job of its own, with its progress.

    `skipped` are those that could not be sent again: their endpoint is switched off, or what they said was deleted.
    """

    __tablename__ = "webhook_recovery"
    __table_args__: ClassVar[_Args] = (Index("webhook_recovery_list", "tenant_id", "id"),)

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    asked: str = _text()
    state: str = _text()
    total: int = _big()
    done: int = _big()
    skipped: int = _big()
    after: str | None = _opt_text()
    created_at: int = _big()
    finished_at: int | None = _opt_big()


class WebhookEvent(SQLModel, table=True):
    """Something that happened; the body is frozen once. One terminal event per run: the index forbids a second."""

    __tablename__ = "webhook_event"
    __table_args__: ClassVar[_Args] = (
        Index(
            "webhook_event_terminal",
            "generation_id",
            "run",
            unique=True,
            postgresql_where=text("terminal = 1"),
            sqlite_where=text("terminal = 1"),
        ),
        Index("webhook_event_generation", "generation_id", "sequence"),
    )

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    generation_id: str = _text()
    run: int = Field(default=1)
    sequence: int = Field(default=0)
    type: str = _text()
    terminal: int = Field(default=0)
    body: str = _text()
    created_at: int = _big()


class WebhookDelivery(SQLModel, table=True):
    """One event on its way to one place."""

    __tablename__ = "webhook_delivery"
    __table_args__: ClassVar[_Args] = (
        UniqueConstraint("event_id", "endpoint_id", "redelivery", name="webhook_delivery_once"),
        Index("webhook_delivery_list", "tenant_id", "id"),
        Index("webhook_delivery_event", "event_id"),
        Index(
            "webhook_delivery_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    event_id: str = _text()
    endpoint_id: str = _text()
    url: str | None = _opt_text()
    secret_ref: str = _text()
    redelivery: int = Field(default=0)
    state: str = _text()
    attempts: int = Field(default=0)
    created_at: int = _big()
    next_at: int | None = _opt_big()
    finished_at: int | None = _opt_big()
    last_error: str | None = _opt_text()
    error_code: str | None = _opt_text()


class WebhookAttempt(SQLModel, table=True):
    """One try of a delivery: what was answered, in how many milliseconds, and what to do about it.

    `lane` is that of its delivery: by it the attempts of one endpoint are counted.
    """

    __tablename__ = "webhook_attempt"
    __table_args__: ClassVar[_Args] = (
        Index("webhook_attempt_delivery", "delivery_id", "id"),
        Index("webhook_attempt_lane", "lane", "at"),
    )

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    delivery_id: str = _text()
    attempt: int = Field(default=1)
    url: str = _text()
    address: str | None = _opt_text()
    status: int | None = None
    reason: str = _text()
    detail: str = _text()
    response: str | None = _opt_text()
    ms: int = Field(default=0)
    at: int = _big()
    request_headers: str | None = _opt_text()
    request_bytes: int | None = None
    response_headers: str | None = _opt_text()
    dns_ms: int | None = None
    connect_ms: int | None = None
    tls_ms: int | None = None
    first_byte_ms: int | None = None
    reused: int | None = None
    lane: str | None = _opt_text()


class CallbackRow(SQLModel, table=True):
    """A provider's ring, kept once per provider event."""

    __tablename__ = "callback"
    __table_args__: ClassVar[_Args] = (UniqueConstraint("provider", "event_id", name="callback_event"),)

    id: str = _text(primary_key=True)
    provider: str = _text()
    event_id: str = _text()
    token: str = _text()
    operation_id: str | None = _opt_text()
    generation_id: str = _text()
    received_at: int = _big()


class Timeline(SQLModel, table=True):
    """What happened to a generation, for people. Append-only."""

    __tablename__ = "timeline"
    __table_args__: ClassVar[_Args] = (Index("timeline_generation", "generation_id", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer(), "sqlite"))
    generation_id: str = _text()
    tenant_id: str = _text()
    run: int = Field(default=1)
    at: int = _big()
    event: str = _text()
    detail: str | None = _opt_text()


class WorkerRow(SQLModel, table=True):
    """A worker process that is, or was, alive."""

    __tablename__ = "worker"

    id: str = _text(primary_key=True)
    host: str = _text()
    pid: int = Field(default=0)
    version: str = _text()
    started_at: int = _big()
    seen_at: int = _big()


class ApiKey(SQLModel, table=True):
    """A key that may call: its hash, never itself. Bound to a tenant, it sees nothing of any other."""

    __tablename__ = "api_key"
    __table_args__: ClassVar[_Args] = (UniqueConstraint("hash", name="api_key_hash"),)

    id: str = _text(primary_key=True)
    tenant_id: str = _text()
    name: str = _text()
    hint: str = _text()
    hash: str = _text()
    scopes: str = _text()
    rate_per_minute: int | None = None
    created_at: int = _big()
    expires_at: int | None = _opt_big()
    last_used_at: int | None = _opt_big()
    revoked_at: int | None = _opt_big()


class Metric(SQLModel, table=True):
    """What one process counted in one minute. `minute` 0 holds the sum of all that was folded away."""

    __tablename__ = "metric"

    minute: int = Field(sa_type=BigInteger, primary_key=True)
    worker: str = _text(primary_key=True)
    name: str = _text(primary_key=True)
    label: str = _text(primary_key=True)
    count: int = _big()
    total: float = Field(default=0.0)
    buckets: str | None = _opt_text()
