"""Statistics: figures that are right with any number of processes.

The named events are their one source. `catalog` says which event feeds which metric; each process adds up in memory
(`recorder`) and writes what is new into table `metric` every few seconds (`rows`); `summary` and `exposition` read
there. A process that is killed loses what it counted since its last write, at most FLUSH_SECONDS of *figures*; rows of
jobs and money are never counted this way.
"""

from pipeline.statistics import catalog, gauges
from pipeline.statistics.exposition import Sample, write_text
from pipeline.statistics.process import process_gauges
from pipeline.statistics.recorder import Statistics
from pipeline.statistics.rows import totals
from pipeline.statistics.summary import last_hour

__all__ = ["Sample", "Statistics", "catalog", "gauges", "last_hour", "process_gauges", "totals", "write_text"]
