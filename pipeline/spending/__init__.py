"""Spending: what may be spent in a day (UTC), what was, and what is set aside.

::

    caps     what may be spent, by whom; what is short
    sums     today's money, from rows
    setting  the caps as they are set
    purse    what one process remembers, and may forget

Money of today is the sum of today's submissions (the reported cost, else the estimate), of which those that surely were
not billed are left out, and of all reservations. A reservation is made in the commit that admits a generation, under
one lock, so that it is exact across processes; the submission takes it over in its own commit; whatever ends the
generation or puts it back in line gives it up. Nothing is kept as a counter that could drift.
"""

from pipeline.spending.caps import NO_CAPS, Bound, Cap, Caps, Shortage, day_of, next_day
from pipeline.spending.purse import Purse
from pipeline.spending.setting import purse_of
from pipeline.spending.sums import Money, lock, today, unaffordable

__all__ = [
    "NO_CAPS",
    "Bound",
    "Cap",
    "Caps",
    "Money",
    "Purse",
    "Shortage",
    "day_of",
    "lock",
    "next_day",
    "purse_of",
    "today",
    "unaffordable",
]
