"""Generations as clients reach them. Every query is bound to a tenant.

::

    creating      once, whatever is sent again
    reading       one, a page, counts
    cancelling    at once, or with the next turn
"""

from pipeline.generations.cancelling import cancel
from pipeline.generations.creating import Conflict, StoredImage, create, repeated
from pipeline.generations.reading import Filters, counts, find, find_any, page

__all__ = [
    "Conflict",
    "Filters",
    "StoredImage",
    "cancel",
    "counts",
    "create",
    "find",
    "find_any",
    "page",
    "repeated",
]
