"""What was asked for, what it cost, and what happened to it."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from pipeline.models.columns import Args, added, big, optional_big, optional_text, required_text


class Generation(SQLModel, table=True):
    """What a client asked for, and what came of it.

    `provider`, `model`, `extra` and `estimate_micros` are those of the candidate whose turn it is: `chain` lists all of
    them ([] where there is only one), and `candidate` says which. `reserved_micros` is what admission set aside for it
    and no submission has taken over yet. `duration` is the length that is asked for, in seconds. `billed` is what is
    known of the charge once it has ended, or is about to: yes, no or unknown.
    """

    __tablename__ = "generation"
    __table_args__: ClassVar[Args] = (
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
            "generation_living",
            "tenant_id",
            "id",
            postgresql_where=text("finished_at IS NULL"),
            sqlite_where=text("finished_at IS NULL"),
        ),
        Index(
            "generation_failed",
            "tenant_id",
            "id",
            postgresql_where=text("error_code IS NOT NULL"),
            sqlite_where=text("error_code IS NOT NULL"),
        ),
        Index(
            "generation_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
            sqlite_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    client_id: str | None = optional_text()
    idempotency_key: str | None = optional_text()
    request_hash: str = required_text()
    user_id: str | None = optional_text()
    prompt: str = required_text()
    parameters: str = required_text()
    labels: str = required_text()
    provider: str = required_text()
    model: str | None = optional_text()
    extra: str = added("{}", Text)
    chain: str = added("[]", Text)
    candidate: int = added("0", Integer)
    duration: int | None = None
    estimate_micros: int = added("0")
    reserved_micros: int = added("0")
    warnings: str | None = optional_text()
    billed: str | None = optional_text()
    priority: int = Field(default=5)
    status: str = required_text()
    stage: str | None = optional_text()
    run: int = Field(default=1)
    sequence: int = Field(default=0)
    progress: float | None = None
    operation: str | None = optional_text()
    input_key: str | None = optional_text()
    input_sha256: str | None = optional_text()
    input_type: str | None = optional_text()
    last_input_key: str | None = optional_text()
    last_input_sha256: str | None = optional_text()
    last_input_type: str | None = optional_text()
    video_key: str | None = optional_text()
    video_bytes: int | None = optional_big()
    video_sha256: str | None = optional_text()
    video_duration: float | None = None
    video_width: int | None = None
    video_height: int | None = None
    video_audio: int | None = None
    error_code: str | None = optional_text()
    error_message: str | None = optional_text()
    error_retryable: int | None = None
    webhook_url: str | None = optional_text()
    webhook_events: str | None = optional_text()
    created_at: int = big()
    updated_at: int = big()
    started_at: int | None = optional_big()
    accepted_at: int | None = optional_big()
    generated_at: int | None = optional_big()
    finished_at: int | None = optional_big()
    cancel_requested_at: int | None = optional_big()
    expires_at: int | None = optional_big()
    expired_at: int | None = optional_big()
    deleted_at: int | None = optional_big()
    redriven_at: int | None = optional_big()
    traceparent: str | None = optional_text()


class Submission(SQLModel, table=True):
    """One possibly-paid call. At most one open submission per generation: the index forbids a second."""

    __tablename__ = "submission"
    __table_args__: ClassVar[Args] = (
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
            "submission_taken",
            "operation_id",
            postgresql_where=text("operation_id IS NOT NULL"),
            sqlite_where=text("operation_id IS NOT NULL"),
        ),
        Index(
            "submission_abandoned",
            "intended_at",
            postgresql_where=text("outcome = 'abandoned'"),
            sqlite_where=text("outcome = 'abandoned'"),
        ),
        Index(
            "submission_unknown",
            "intended_at",
            postgresql_where=text("outcome = 'unknown'"),
            sqlite_where=text("outcome = 'unknown'"),
        ),
    )

    id: str = required_text(primary_key=True)
    generation_id: str = required_text()
    tenant_id: str = required_text()
    user_id: str | None = optional_text()
    run: int = Field(default=1)
    provider: str = required_text()
    model: str | None = optional_text()
    token: str = required_text()
    outcome: str = required_text()
    operation_id: str | None = optional_text()
    operation: str | None = optional_text()
    candidate_operation_id: str | None = optional_text()
    carries: str = required_text()
    billed: str = required_text(default="unknown")
    estimate_micros: int = big()
    cost_micros: int | None = optional_big()
    error_code: str | None = optional_text()
    error_message: str | None = optional_text()
    intended_at: int = big()
    answered_at: int | None = optional_big()
    closed_at: int | None = optional_big()


class CallbackRow(SQLModel, table=True):
    """A provider's ring, kept once per provider event."""

    __tablename__ = "callback"
    __table_args__: ClassVar[Args] = (UniqueConstraint("provider", "event_id", name="callback_event"),)

    id: str = required_text(primary_key=True)
    provider: str = required_text()
    event_id: str = required_text()
    token: str = required_text()
    operation_id: str | None = optional_text()
    generation_id: str = required_text()
    received_at: int = big()


class Timeline(SQLModel, table=True):
    """What happened to a generation, for people. Append-only. `fence` and `worker` name the turn that wrote the line,
    if a turn did."""

    __tablename__ = "timeline"
    __table_args__: ClassVar[Args] = (Index("timeline_generation", "generation_id", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer(), "sqlite"))
    generation_id: str = required_text()
    tenant_id: str = required_text()
    run: int = Field(default=1)
    at: int = big()
    event: str = required_text()
    detail: str | None = optional_text()
    fence: int | None = optional_big()
    worker: str | None = optional_text()
