"""Generations as clients reach them. Every query is bound to a tenant.

::

    creating      once, whatever is sent again
    reading       one, a page, counts
    cancelling    at once, or with the next turn
    redriving     a failed one goes on where it failed, as a new run
    dead          dead letters of both kinds go on
    unclear       paid calls of which nobody can tell what became
    resolving     a person says what became of one
    deleting      what was written and made goes, a tombstone stays
"""

from pipeline.generations.cancelling import cancel
from pipeline.generations.creating import Conflict, StoredImage, create, repeated
from pipeline.generations.deleting import NotEnded, buried, bury
from pipeline.generations.reading import Deleted, Filters, counts, ended, find, find_any, page
from pipeline.generations.redriving import From, NoMoney, NotRedrivable, Plan, RepayNeeded, plan, redrive

__all__ = [
    "Conflict",
    "Deleted",
    "Filters",
    "From",
    "NoMoney",
    "NotEnded",
    "NotRedrivable",
    "Plan",
    "RepayNeeded",
    "StoredImage",
    "buried",
    "bury",
    "cancel",
    "counts",
    "create",
    "ended",
    "find",
    "find_any",
    "page",
    "plan",
    "redrive",
    "repeated",
]
