"""What a process can say of itself. Where the system does not tell (no /proc), a figure is left out."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.statistics import gauges

STARTED_AT = time.time()


def process_gauges(spool_used: int, spool_limit: int, folder: Path) -> Mapping[str, float]:
    """Figures by metric's name: bytes, seconds, counts. `folder` is on the disk whose free space matters."""
    said: dict[str, float] = {
        gauges.SPOOL.name: spool_used,
        gauges.SPOOL_LIMIT.name: spool_limit,
        gauges.CPU.name: sum(os.times()[:2]),
        gauges.STARTED.name: STARTED_AT,
        gauges.MAX_FDS.name: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    with suppress(OSError):
        said[gauges.DISK_FREE.name] = shutil.disk_usage(folder).free
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        said[gauges.RSS.name] = pages * resource.getpagesize()
    with suppress(OSError):
        said[gauges.FDS.name] = len(os.listdir("/proc/self/fd"))
    return said
