"""Endpoints with secrets of their own, attempts with all that was sent, and recoveries."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("description", "headers"):
        op.add_column("webhook_endpoint", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("webhook_endpoint", sa.Column("ordered", sa.Integer(), nullable=False, server_default="0"))
    for name in ("max_in_flight", "rate_per_minute"):
        op.add_column("webhook_endpoint", sa.Column(name, sa.Integer(), nullable=True))
    for name in ("failing_since", "updated_at", "deleted_at"):
        op.add_column("webhook_endpoint", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_index("webhook_endpoint_tenant", "webhook_endpoint", ["tenant_id", "id"])
    for name in ("request_headers", "response_headers", "lane"):
        op.add_column("webhook_attempt", sa.Column(name, sa.Text(), nullable=True))
    for name in ("request_bytes", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "reused"):
        op.add_column("webhook_attempt", sa.Column(name, sa.Integer(), nullable=True))
    op.create_index("webhook_attempt_lane", "webhook_attempt", ["lane", "at"])
    op.create_table(
        "webhook_secret",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhook_secret_endpoint", "webhook_secret", ["endpoint_id", "id"])
    op.create_table(
        "webhook_recovery",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhook_recovery_list", "webhook_recovery", ["tenant_id", "id"])
