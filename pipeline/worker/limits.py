"""Who a worker process is, and how much it takes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.admission import Bounds
from pipeline.lifecycle import Step
from pipeline.spending import Purse


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker process, never the same twice."""

    id: str
    host: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a process takes on, and how long things may take (seconds).

    `batch` is how many jobs of a step one look takes at most, `fill` how long a batch is given to fill.
    """

    slots: Mapping[Step, int]
    per_lane: Mapping[Step, int]
    bounds: Bounds
    lease: float
    turn_timeout: float
    drain_timeout: float
    purse: Purse = field(default_factory=Purse)
    batch: int = 256
    fill: float = 0.0
