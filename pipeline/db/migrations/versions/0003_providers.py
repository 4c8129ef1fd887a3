"""Chains of providers, prices and reservations, probes, and a second picture."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

PARTIAL = {
    "generation_input": (
        "generation",
        ["finished_at"],
        "(input_key IS NOT NULL OR last_input_key IS NOT NULL) AND finished_at IS NOT NULL",
    ),
    "generation_pace": (
        "generation",
        ["provider", "model", "duration", "generated_at"],
        "generated_at IS NOT NULL",
    ),
    "generation_reserved": (
        "generation",
        ["provider", "tenant_id", "user_id", "reserved_micros"],
        "reserved_micros > 0",
    ),
    "job_waiting": ("job", ["lane", "sort_at", "id", "unfunded"], "status = 'waiting'"),
    "job_fallback": ("job", ["lane", "sort_at", "id"], "status = 'waiting' AND fallback = 1"),
    "submission_unknown": ("submission", ["intended_at"], "outcome = 'unknown'"),
}


def upgrade() -> None:
    op.add_column("generation", sa.Column("extra", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("generation", sa.Column("chain", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("generation", sa.Column("candidate", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("generation", sa.Column("duration", sa.Integer(), nullable=True))
    for name in ("estimate_micros", "reserved_micros"):
        op.add_column("generation", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    for name in ("warnings", "billed", "last_input_key", "last_input_sha256", "last_input_type"):
        op.add_column("generation", sa.Column(name, sa.Text(), nullable=True))
    for name in ("fallback", "unfunded", "was_dead"):
        op.add_column("job", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("lane", sa.Column("probing", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("submission", sa.Column("user_id", sa.Text(), nullable=True))
    op.drop_index("job_waiting", "job")
    op.drop_index("generation_input", "generation")
    for index, (table, columns, condition) in PARTIAL.items():
        where = sa.text(condition)
        op.create_index(index, table, columns, postgresql_where=where, sqlite_where=where)
    op.create_index("submission_provider", "submission", ["provider", "intended_at"])
    op.create_index("submission_user", "submission", ["tenant_id", "user_id", "intended_at"])
