"""Keys with tenants and scopes, counted minutes, and the end of videos."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

LIVE = "expires_at IS NOT NULL AND expired_at IS NULL"
WITH_INPUT = "input_key IS NOT NULL AND finished_at IS NOT NULL"


def upgrade() -> None:
    for name in ("expires_at", "expired_at", "deleted_at", "redriven_at"):
        op.add_column("generation", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("generation", sa.Column("traceparent", sa.Text(), nullable=True))
    op.add_column("webhook_delivery", sa.Column("error_code", sa.Text(), nullable=True))
    op.create_index(
        "generation_expires",
        "generation",
        ["expires_at"],
        postgresql_where=sa.text(LIVE),
        sqlite_where=sa.text(LIVE),
    )
    op.create_index(
        "generation_input",
        "generation",
        ["finished_at"],
        postgresql_where=sa.text(WITH_INPUT),
        sqlite_where=sa.text(WITH_INPUT),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash", name="api_key_hash"),
    )
    op.create_table(
        "metric",
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("buckets", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("minute", "worker", "name", "label"),
    )
