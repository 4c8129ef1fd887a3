"""One generation of the mock: what was accepted, and where it stands at a given time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})

FAILURES = {
    "moderation": "The prompt or the result was refused by the content policy.",
    "internal": "The generation failed inside the provider; it was not charged.",
    "final": "The generation failed, and would fail again.",
}


@dataclass(frozen=True, slots=True)
class Work:
    """An accepted generation. Times are Unix seconds; `ends_at` None means never; `ending` is what it will come to;
    `dialect` is the one in which it was asked for, and is told of."""

    id: str
    prompt: str
    body: dict[str, Any]
    body_hash: str
    idempotency_key: str | None
    reference: str | None
    callback_url: str | None
    created_at: float
    starts_at: float
    ends_at: float | None
    ending: str
    cancelled_at: float | None
    charged_micros: int
    refund_at: float | None
    dialect: str = "native"

    def status(self, now: float) -> str:
        """`queued`, `running`, `succeeded`, `failed` or `cancelled` at that time."""
        if self.cancelled_at is not None:
            return "cancelled"
        if now < self.starts_at:
            return "queued"
        if self.ends_at is None or now < self.ends_at:
            return "running"
        return "failed" if self.ending in FAILURES else self.ending

    def progress(self, now: float) -> float:
        """How much is done, 0 to 1; a generation that never ends stays at a half."""
        if self.ends_at is None:
            return 0.5 if now >= self.starts_at else 0.0
        return round(min(max((now - self.starts_at) / max(self.ends_at - self.starts_at, 1e-9), 0.0), 1.0), 3)

    def cost_micros(self, now: float) -> int:
        """What the customer pays, in micro-USD, as far as it is known at that time."""
        return 0 if self.refund_at is not None and self.refund_at <= now else self.charged_micros
