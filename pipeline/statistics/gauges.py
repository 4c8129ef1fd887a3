"""Every metric that is read when it is asked for: from the tables, or from a process about itself."""

from __future__ import annotations

from pipeline.statistics.metric import Metric


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"dailies_{name}", "gauge", text, labels)


BUILD = _gauge("build_info", "Always 1; the version that answers.", "version")
JOBS = _gauge(
    "jobs",
    "Jobs that have not ended, and dead ones. Lanes of endpoints are counted together.",
    "kind",
    "status",
    "lane",
)
OLDEST = _gauge("oldest_waiting_seconds", "Age of the generation that has waited longest for admission; 0 if none.")
OLDEST_DUE = _gauge("oldest_due_seconds", "How long the job that is most overdue has been due; 0 if none.", "step")
IN_FLIGHT = _gauge("generations_in_flight", "Admitted generations that have not ended, without held ones.", "lane")
HELD = _gauge("generations_held", "Generations whose paid call has an unknown outcome.")
DEAD = _gauge("jobs_dead", "Jobs that were given up and not redriven.", "kind")
PAUSED = _gauge("lane_paused", "1 while the lane of a provider is paused.", "lane")
LANES_PAUSED = _gauge("lanes_paused", "Lanes that are paused.")
WORKERS = _gauge("workers", "Worker processes seen in the last 90 seconds.")
OPEN = _gauge("submissions_open", "Possibly-paid calls that are not settled.", "outcome")
OPEN_COST = _gauge("submissions_open_cost_usd", "Their list price in US dollars.", "outcome")

SPENT = _gauge(
    "spend_today_usd", "List prices and costs of today (UTC) with what is set aside, as caps count.", "scope", "name"
)
CAP = _gauge("spend_cap_usd", "What a day may cost.", "scope", "name")
SHORT = _gauge("generations_waiting_for_spend", "Generations for which no cap leaves room today.")

FROM_DATABASE = (
    BUILD, JOBS, OLDEST, OLDEST_DUE, IN_FLIGHT, HELD, DEAD, PAUSED, LANES_PAUSED, WORKERS, OPEN, OPEN_COST,
    SPENT, CAP, SHORT,
)  # fmt: skip

PROCESS = ("process",)
SPOOL = _gauge("spool_bytes", "Bytes in the spool of a process.", *PROCESS)
SPOOL_LIMIT = _gauge("spool_limit_bytes", "SPOOL_BYTES of a process.", *PROCESS)
DISK_FREE = _gauge("disk_free_bytes", "Bytes free on the disk of DATA_DIR.", *PROCESS)
RSS = Metric("process_resident_memory_bytes", "gauge", "Resident memory.", PROCESS)
FDS = Metric("process_open_fds", "gauge", "Open file descriptors.", PROCESS)
MAX_FDS = Metric("process_max_fds", "gauge", "How many file descriptors may be open.", PROCESS)
CPU = Metric("process_cpu_seconds_total", "counter", "Processor time used.", PROCESS)
STARTED = Metric("process_start_time_seconds", "gauge", "When the process started, in Unix seconds.", PROCESS)

FROM_PROCESSES = (SPOOL, SPOOL_LIMIT, DISK_FREE, RSS, FDS, MAX_FDS, CPU, STARTED)
"""Each process writes these down with its figures, so that one scrape shows all of them."""
