"""Whose turn it is among users, and which turn wrote a line of the timeline."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("job", sa.Column("user_id", sa.Text(), nullable=False, server_default=""))
    op.execute(
        "UPDATE job SET user_id = coalesce((SELECT g.user_id FROM generation g WHERE g.id = job.subject_id), '')"
        " WHERE kind = 'generation' AND finished_at IS NULL"
    )
    where = sa.text("status = 'waiting'")
    columns = ["lane", "tenant_id", "user_id", "sort_at", "id", "unfunded"]
    op.create_index("job_waiting_user", "job", columns, postgresql_where=where, sqlite_where=where)
    op.add_column("lane", sa.Column("weight", sa.Float(), nullable=True))
    op.add_column("timeline", sa.Column("fence", sa.BigInteger(), nullable=True))
    op.add_column("timeline", sa.Column("worker", sa.Text(), nullable=True))
