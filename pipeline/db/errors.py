"""What can go wrong at the door of the database.

::

    DatabaseError
    +-- DatabaseBusy     another process holds the write lock for too long: nothing was written
    +-- WriterFull       too much work is waiting for a commit: nothing was written, come back later
    +-- CommitUnknown    the answer to COMMIT was lost: the work is either wholly there or not at all
    +-- SchemaBehind     the tables are older (or newer) than this code
"""


class DatabaseError(Exception):
    """Anything that the database door raises by itself."""


class DatabaseBusy(DatabaseError):
    """Nothing was written, since another process holds the write lock. Safe to repeat."""


class WriterFull(DatabaseError):
    """Nothing was written, since the writer's queue is full. Safe to repeat after a pause."""


class CommitUnknown(DatabaseError):
    """COMMIT was sent and its answer was lost. Only idempotent work may be repeated."""


class SchemaBehind(DatabaseError):
    """The schema does not fit this version; the message says which command mends it."""
