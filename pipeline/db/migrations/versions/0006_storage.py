"""How the tables are stored, and the indexes that are worth their writes. Every step may be repeated.

Room is left in the pages of rows that change, so that a new version of a row stays in its page and touches no index.
What changes often is vacuumed early and without pauses: dead versions are what slows a queue in PostgreSQL. The figures
are measured by `benchmarks/database.py`.
"""

import sqlalchemy as sa
from alembic import op

from pipeline.db.migrations import indexes

revision = "0006"
down_revision = "0005"

EARLY = {
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_analyze_threshold": "500",
}
SMALL = {
    "fillfactor": "50",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "200",
    "autovacuum_vacuum_cost_delay": "0",
}
"""A few rows, written again and again: they are to fit in a page or two for ever."""
GROWING = {
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
}
STORED = {
    "job": EARLY | {"fillfactor": "80"},
    "generation": EARLY | {"fillfactor": "80"},
    "submission": EARLY | {"fillfactor": "90"},
    "webhook_delivery": EARLY | {"fillfactor": "90"},
    "worker": SMALL,
    "lane": SMALL,
    "metric": SMALL | {"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    "webhook_event": GROWING,
    "webhook_attempt": GROWING,
    "timeline": GROWING,
    "callback": GROWING,
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, parameters in STORED.items():
            words = ", ".join(f"{name} = {value}" for name, value in parameters.items())
            op.execute(f"ALTER TABLE {table} SET ({words})")
    _name_users()
    indexes.make(
        "job_waiting_user",
        "job",
        ["lane", "tenant_id", "user_id", "sort_at", "id", "unfunded"],
        "status = 'waiting'",
    )
    indexes.make(
        "job_in_flight",
        "job",
        ["tenant_id", "user_id", "lane"],
        "status <> 'waiting' AND finished_at IS NULL AND step IN ('submit', 'poll', 'store')",
    )
    indexes.make("generation_living", "generation", ["tenant_id", "id"], "finished_at IS NULL")
    indexes.make("generation_failed", "generation", ["tenant_id", "id"], "error_code IS NOT NULL")
    indexes.make("submission_abandoned", "submission", ["intended_at"], "outcome = 'abandoned'")
    indexes.make("submission_taken", "submission", ["operation_id"], "operation_id IS NOT NULL")
    indexes.make("webhook_delivery_endpoint", "webhook_delivery", ["endpoint_id", "id"])
    indexes.make(
        "webhook_delivery_failing",
        "webhook_delivery",
        ["endpoint_id", "id"],
        "state = 'pending' AND error_code IS NOT NULL",
    )
    indexes.make("webhook_delivery_dead", "webhook_delivery", ["tenant_id", "id"], "state = 'dead'")
    indexes.drop("webhook_delivery_event", "webhook_delivery")


BATCH = 20_000
NAME = """
UPDATE job SET user_id = (SELECT g.user_id FROM generation g WHERE g.id = job.subject_id)
WHERE id >= :first AND id < :behind AND kind = 'generation' AND finished_at IS NULL AND user_id = ''
AND EXISTS (SELECT 1 FROM generation g WHERE g.id = job.subject_id AND g.user_id IS NOT NULL)"""


def _name_users() -> None:
    """Jobs that have not ended learn their user, a few thousand in one commit: their turns go on meanwhile."""
    first, last = op.get_bind().execute(sa.text("SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM job")).one()
    with indexes.beside():
        for start in range(first, last + 1, BATCH):
            op.execute(sa.text(NAME).bindparams(first=start, behind=start + BATCH))
