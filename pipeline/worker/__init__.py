"""The worker: a loop that claims, a runner that runs turns, leases that are kept, an end that hands back."""

from pipeline.worker.limits import Identity, Limits
from pipeline.worker.loop import Worker, run_until

__all__ = ["Identity", "Limits", "Worker", "run_until"]
