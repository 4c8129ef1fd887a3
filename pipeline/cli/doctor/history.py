"""The history of every generation, looked through on request: it takes a while where there are many."""

from __future__ import annotations

from collections import Counter

from pipeline.cli.doctor.verdict import Check, failure, ok, warning
from pipeline.config import Settings
from pipeline.db import Database, DatabaseError
from pipeline.drill.history import check
from pipeline.drill.rules import NAMES, Violation

NAMED = 3
"""So many generations are named of each violation."""


async def history_checks(settings: Settings) -> list[Check]:
    """Whether what the database holds is what must be; it is read, and nothing is changed."""
    try:
        db = Database(settings.database)
    except (DatabaseError, OSError):
        return []  # told by the check of the database
    try:
        count, now = await db.read(lambda tx: (int(tx.value("SELECT count(*) FROM generation")), tx.now))
        kept_since = now - int(settings.keep_events * 1000) if settings.keep_events else 0
        found = await check(db, kept_since=kept_since)
    except DatabaseError as error:
        return [warning("history", f"it could not be read: {error}", "see what the check of the database says")]
    finally:
        db.close()
    if not found:
        return [ok("history", f"{count} generations: turns in order, one end and one paid call at a time each")]
    mend = "read their timelines (`dailies show ID`), and compare what was paid with the provider's own account"
    return [failure("history", text, mend) for text in told(found)]


def told(found: list[Violation]) -> list[str]:
    """One line per kind of violation, with the first generations that have it. Pure."""
    counts = Counter(violation.name for violation in found)
    lines = []
    for name, count in counts.items():
        named = [violation.generation for violation in found if violation.name == name][:NAMED]
        more = f" and {count - len(named)} more" if count > len(named) else ""
        lines.append(f"{NAMES[name]} ({name}): {', '.join(named)}{more}")
    return lines
