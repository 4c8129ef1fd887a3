"""The queue: jobs, the lanes that they share, and the workers that take them."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from pipeline.models.columns import Args, added, big, optional_big, optional_text, required_text

_IN_FLIGHT = "status <> 'waiting' AND finished_at IS NULL AND step IN ('submit', 'poll', 'store')"


class Job(SQLModel, table=True):
    """A row of the queue: whose turn is next, when, and who holds it. Kept under 300 bytes.

    `user_id` is whom its tenant named, '' if nobody: admission shares places among users. `fallback` is 1 while
    another provider could be asked instead. `unfunded` is the day (since 1970, UTC) on which admission found no money
    left for it; 1 after there was some again, 0 if there always was.
    """

    __tablename__ = "job"
    __table_args__: ClassVar[Args] = (
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
            "job_waiting_user",
            "lane",
            "tenant_id",
            "user_id",
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
            "job_in_flight",
            "tenant_id",
            "user_id",
            "lane",
            postgresql_where=text(_IN_FLIGHT),
            sqlite_where=text(_IN_FLIGHT),
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
    kind: str = required_text()
    subject_id: str = required_text()
    tenant_id: str = required_text()
    lane: str = required_text()
    status: str = required_text()
    step: str = required_text()
    sort_at: int = big()
    scheduled_for: int = big()
    attempts: int = Field(default=0)
    polls: int = Field(default=0)
    claims_unrecorded: int = Field(default=0)
    fence: int = big()
    wake_seq: int = big()
    cancel_requested: int = Field(default=0)
    fallback: int = added("0", Integer)
    unfunded: int = added("0", Integer)
    was_dead: int = added("0", Integer)
    user_id: str = added("", Text)
    locked_by: str | None = optional_text()
    locked_until: int | None = optional_big()
    finished_at: int | None = optional_big()


class Lane(SQLModel, table=True):
    """A road to one provider or endpoint, or one user's share of all roads: how many may be under way, and whether it
    is closed for now.

    `probing` counts how often in a row the provider itself had it closed: while it is not 0, one submission is made
    at a time, until one is answered well. `weight` is how much of the places a user gets against others, 1 unless set.
    `waits_from` is when the last pause by hand ends, or ended: what waited through it waits anew from then.
    """

    __tablename__ = "lane"

    name: str = required_text(primary_key=True)
    max_in_flight: int | None = None
    paused_until: int | None = optional_big()
    paused_reason: str | None = optional_text()
    unknown_streak: int = Field(default=0)
    probing: int = added("0", Integer)
    weight: float | None = None
    waits_from: int | None = optional_big()


class WorkerRow(SQLModel, table=True):
    """A worker process that is, or was, alive."""

    __tablename__ = "worker"

    id: str = required_text(primary_key=True)
    host: str = required_text()
    pid: int = Field(default=0)
    version: str = required_text()
    started_at: int = big()
    seen_at: int = big()
