"""The mock's memory: one SQLite file, committed before every answer, so that a killed process forgets nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from providers.mock.work import Work

_SCHEMA = """
CREATE TABLE IF NOT EXISTS work (
    id TEXT PRIMARY KEY, prompt TEXT NOT NULL, body TEXT NOT NULL, body_hash TEXT NOT NULL,
    idempotency_key TEXT UNIQUE, reference TEXT, callback_url TEXT,
    created_at REAL NOT NULL, starts_at REAL NOT NULL, ends_at REAL, ending TEXT NOT NULL, cancelled_at REAL,
    charged_micros INTEGER NOT NULL, refund_at REAL, dialect TEXT NOT NULL, rung INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS work_reference ON work (reference) WHERE reference IS NOT NULL;
CREATE INDEX IF NOT EXISTS work_bell ON work (ends_at)
    WHERE rung = 0 AND callback_url IS NOT NULL AND ends_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS spent (
    scope TEXT NOT NULL, name TEXT NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (scope, name)
) STRICT;
CREATE TABLE IF NOT EXISTS rule (
    id INTEGER PRIMARY KEY, fault TEXT NOT NULL, number REAL, match TEXT NOT NULL, used INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS secret (value BLOB NOT NULL) STRICT;
"""


@dataclass
class Rule:
    """A fault that an administrator set: `number` is its count (None: always) or its seconds; `used` counts."""

    fault: str
    number: float | None = None
    match: str = ""
    used: int = 0
    id: int | None = None


_COLUMNS = ", ".join(field.name for field in fields(Work))
_INSERT = f"INSERT INTO work ({_COLUMNS}) VALUES ({', '.join('?' for _ in fields(Work))})"
_SELECT = f"SELECT {_COLUMNS} FROM work"


class State:
    """All reads and writes of the file at `path`, or of memory when None. For one thread; every write commits."""

    def __init__(self, path: Path | None) -> None:
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, cached_statements=64)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {_SCHEMA}")
        self.rules = [Rule(*row) for row in self._db.execute("SELECT fault, number, match, used, id FROM rule")]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def secret(self, fresh: bytes) -> bytes:
        """The key that signs links, made from `fresh` the first time."""
        self._db.execute("INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT 1 FROM secret)", (fresh,))
        value: bytes = self._db.execute("SELECT value FROM secret").fetchone()[0]
        return value

    def add(self, work: Work) -> None:
        """Accept and charge, in one commit."""
        self._db.execute(_INSERT, _values(work))

    def add_all(self, works: Iterable[Work]) -> None:
        """Accept many at once, in one commit: work that is under way before anybody asks."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_INSERT, map(_values, works))

    def by_id(self, work_id: str) -> Work | None:
        """The generation, if there is one."""
        return self._one("id = ?", work_id)

    def by_key(self, key: str) -> Work | None:
        """The generation that was accepted under an idempotency key."""
        return self._one("idempotency_key = ?", key)

    def by_reference(self, reference: str) -> list[Work]:
        """All generations that carry a reference, oldest first."""
        return self._all("reference = ? ORDER BY created_at", reference)

    def search(self, text: str, limit: int) -> list[Work]:
        """The newest `limit` generations whose prompt contains `text`, oldest first."""
        return self._all("instr(prompt, ?) > 0 OR ?1 = '' ORDER BY rowid DESC LIMIT ?", text, limit)[::-1]

    def totals(self, text: str, now: float) -> dict[str, int]:
        """Sums over all generations whose prompt contains `text`: accepted, charged_micros, refunded_micros."""
        sums = (
            "COUNT(*), COALESCE(SUM(charged_micros), 0), COALESCE(SUM(charged_micros) FILTER (WHERE refund_at <= ?), 0)"
        )
        query = f"SELECT {sums} FROM work WHERE instr(prompt, ?2) > 0 OR ?2 = ''"
        accepted, charged, refunded = self._db.execute(query, (now, text)).fetchone()
        return {"accepted": accepted, "charged_micros": charged, "refunded_micros": refunded}

    def cancel(self, work_id: str, now: float, *, refund: bool) -> None:
        """Stop a generation at `now`; it counts as ended, so that its bell rings."""
        refund_at = now if refund else None
        query = "UPDATE work SET cancelled_at = ?1, ends_at = ?1, refund_at = ?2 WHERE id = ?3"
        self._db.execute(query, (now, refund_at, work_id))

    def bells(self, limit: int) -> list[Work]:
        """The generations whose callback has not rung, next to end first."""
        return self._all(
            "rung = 0 AND callback_url IS NOT NULL AND ends_at IS NOT NULL ORDER BY ends_at LIMIT ?", limit
        )

    def rung(self, work_id: str) -> None:
        """The callback was delivered or given up."""
        self._db.execute("UPDATE work SET rung = 1 WHERE id = ?", (work_id,))

    def spend(self, scope: str, name: str, count: float | None) -> bool:
        """Use up one of `count` within a scope; True if there was one left. None is never used up."""
        if count is None:
            return True
        query = """INSERT INTO spent SELECT ?1, ?2, 1 WHERE ?3 >= 1
            ON CONFLICT DO UPDATE SET used = used + 1 WHERE used + 1 <= ?3"""
        return self._db.execute(query, (scope, name, count)).rowcount > 0

    def spend_rule(self, rule: Rule) -> bool:
        """Use up one of a rule's count; True if there was one left."""
        if rule.number is None:
            return True
        if rule.used >= rule.number:
            return False
        rule.used += 1
        self._db.execute("UPDATE rule SET used = ? WHERE id = ?", (rule.used, rule.id))
        return True

    def replace_rules(self, rules: list[Rule]) -> None:
        """Forget all rules and keep these."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM rule")
            for rule in rules:
                values = asdict(rule)
                query = "INSERT INTO rule (fault, number, match, used) VALUES (:fault, :number, :match, 0)"
                rule.id = self._db.execute(query, values).lastrowid
        self.rules = rules

    def _one(self, where: str, *values: object) -> Work | None:
        found = self._all(where, *values)
        return found[0] if found else None

    def _all(self, where: str, *values: object) -> list[Work]:
        rows = self._db.execute(f"{_SELECT} WHERE {where}", values)
        return [_read(row) for row in rows]


def _values(work: Work) -> list[object]:
    values = [getattr(work, field.name) for field in fields(Work)]
    return [json.dumps(value) if isinstance(value, dict) else value for value in values]


def _read(row: tuple[Any, ...]) -> Work:
    work_id, prompt, body, *rest = row
    return Work(work_id, prompt, json.loads(body), *rest)
