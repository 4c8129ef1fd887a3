"""The service itself: who may call, and what was counted."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from pipeline.models.columns import Args, big, optional_big, optional_text, required_text


class ApiKey(SQLModel, table=True):
    """A key that may call: its hash, never itself. Bound to a tenant, it sees nothing of any other."""

    __tablename__ = "api_key"
    __table_args__: ClassVar[Args] = (UniqueConstraint("hash", name="api_key_hash"),)

    id: str = required_text(primary_key=True)
    tenant_id: str = required_text()
    name: str = required_text()
    hint: str = required_text()
    hash: str = required_text()
    scopes: str = required_text()
    rate_per_minute: int | None = None
    created_at: int = big()
    expires_at: int | None = optional_big()
    last_used_at: int | None = optional_big()
    revoked_at: int | None = optional_big()


class Metric(SQLModel, table=True):
    """What one process counted in one minute. `minute` 0 holds the sum of all that was folded away."""

    __tablename__ = "metric"

    minute: int = Field(sa_type=BigInteger, primary_key=True)
    worker: str = required_text(primary_key=True)
    name: str = required_text(primary_key=True)
    label: str = required_text(primary_key=True)
    count: int = big()
    total: float = Field(default=0.0)
    buckets: str | None = optional_text()


class HostClock(SQLModel, table=True):
    """Where a SQLite database's time stands (`db/hosttime.py`): one row there, none on PostgreSQL, which has a clock of
    its own. Milliseconds."""

    __tablename__ = "clock"

    id: int = Field(primary_key=True)
    boot: str = required_text()
    since: int = big()
    ahead: int = big()
    target: int = big()
