"""Whose turn it is among users, which turn wrote a line of the timeline, where the time of a SQLite file stands. All of
it is done in a moment; what takes as long as a table is large comes with 0006, beside working processes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

CLOCK = ("boot", "since", "ahead", "target")


def upgrade() -> None:
    op.add_column("job", sa.Column("user_id", sa.Text(), nullable=False, server_default=""))
    op.add_column("lane", sa.Column("weight", sa.Float(), nullable=True))
    op.add_column("lane", sa.Column("waits_from", sa.BigInteger(), nullable=True))
    op.add_column("timeline", sa.Column("fence", sa.BigInteger(), nullable=True))
    op.add_column("timeline", sa.Column("worker", sa.Text(), nullable=True))
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer(), nullable=False, primary_key=True),
        *(sa.Column(name, sa.BigInteger() if name != "boot" else sa.Text(), nullable=False) for name in CLOCK),
    )
