"""Asking a provider to stop, and what may truly be said of it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.workflow.parts import ask
from providers.base import Operation, Provider, ProviderError, Stop

BILLED = {True: "yes", False: "no", None: "unknown"}
NO_WAY = "the provider offers no way to stop work that it took"
WORKS_ON = "the provider does not stop this work any more"


@dataclass(frozen=True, slots=True)
class Stopping:
    """What came of it, and why the work goes on where it does."""

    stop: Stop
    reason: str | None = None

    @property
    def told(self) -> dict[str, object]:
        """As the timeline says it."""
        return {"provider_stopped": self.stop.stopped, "billed": BILLED[self.stop.billed], "reason": self.reason}


async def stop_upstream(provider: Provider, operation: Operation) -> Stopping:
    """Ask the provider to stop; that it cannot be reached, or refuses, changes nothing for us."""
    if not provider.capabilities.cancel:
        return Stopping(Stop(stopped=False), NO_WAY)
    try:
        stop = await ask(provider.cancel(operation))
    except (ProviderError, TimeoutError) as error:
        return Stopping(Stop(stopped=False), f"the provider did not stop it: {error}")
    return Stopping(stop, None if stop.stopped else WORKS_ON)
