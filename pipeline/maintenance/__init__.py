"""Maintenance: what was kept for its time goes; what nobody owns is found.

::

    keep      how long things are kept, and what a round did
    rows      rows, in small commits
    files     files with the rows that name them
    orphans   files without rows, rows without files
    rounds    all of it, once an hour
"""

from pipeline.maintenance.keep import Keep, Round
from pipeline.maintenance.orphans import Orphans
from pipeline.maintenance.rounds import Maintenance

__all__ = ["Keep", "Maintenance", "Orphans", "Round"]
