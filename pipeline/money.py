"""Sums of money: integers of micro-USD inside, US dollars in decimal words outside. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

MICROS = 1_000_000
MOST_USD = 1_000_000_000
NO_CAP = "none"


def micros_of(text: str) -> int | None:
    """Micro-USD of a sum in dollars such as `20` or `0.5`; None for `none`. Raises ValueError."""
    if text.strip().lower() == NO_CAP:
        return None
    try:
        amount = Decimal(text.strip())
        micros = amount * MICROS
        if not amount.is_finite() or not 0 <= amount <= MOST_USD or micros != micros.to_integral_value():
            raise ValueError
    except (InvalidOperation, ValueError):
        raise ValueError(f"{text[:50]!r} is no sum in US dollars such as 20 or 0.5, nor {NO_CAP}") from None
    return int(micros)


def caps_of(text: str) -> dict[str, int | None]:
    """Micro-USD by name, from `20` (for every name: `*`) or `fal:50,runway:none,*:10`. Raises ValueError."""
    found: dict[str, int | None] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, colon, amount = part.rpartition(":")
        name = name.strip() if colon else "*"
        if not name or name in found:
            raise ValueError(f"{part[:50]!r}: {'named twice' if name in found else 'nothing stands before the colon'}")
        found[name] = micros_of(amount)
    if not found:
        raise ValueError(f"is a sum in US dollars, entries such as fal:50,*:10, or {NO_CAP}")
    return found


def usd(micros: int) -> str:
    """A sum in words: `0.40 USD`; as many decimals as it takes, two at least."""
    cents, rest = divmod(abs(micros), 10_000)
    decimals = f"{cents % 100:02}" + (f"{rest:04}".rstrip("0") if rest else "")
    return f"{'-' if micros < 0 else ''}{cents // 100}.{decimals} USD"
