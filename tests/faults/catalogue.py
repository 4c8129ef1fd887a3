"""Which faults there are, by database."""

from __future__ import annotations

from tests.faults.breaking import (
    Fault,
    deafen,
    end_backends,
    exhaust,
    fill_disk,
    fill_log,
    fill_tables,
    forbid_growth,
    hold_rows,
    lose_commits,
    nothing,
    refuse_rows,
    restart,
    storm,
)

POSTGRES = (
    Fault("none (control)", nothing),
    Fault("restart", restart),
    Fault("backends ended", end_backends),
    Fault("no connection left", exhaust),
    Fault("COMMITs lost", lose_commits),
    Fault("rows held, idle", hold_rows, 8.0),
    Fault("listener deaf", deafen, 35.0),
    Fault("INSERTs refused", refuse_rows),
)
SQLITE = (
    Fault("none (control)", nothing),
    Fault("busy storm", storm, 10.0),
    Fault("files cannot grow", forbid_growth),
)
FULL = {
    "sqlite": (Fault("disk full", fill_disk),),
    "postgres": (Fault("disk full", fill_tables), Fault("disk of the log full", fill_log)),
}
"""These need a small disk of their own, which not every machine lets one make."""
