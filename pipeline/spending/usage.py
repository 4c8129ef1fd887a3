"""Usage: what was submitted in a span of time and what it cost, added up by who, where or when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.db import Row, Tx
from pipeline.spending.caps import DAY_MS


class By(StrEnum):
    """What usage is added up by."""

    USER = "user"
    PROVIDER = "provider"
    MODEL = "model"
    DAY = "day"


_KEYS = {
    By.USER: ("user_id", "NULL"),
    By.PROVIDER: ("provider", "NULL"),
    By.MODEL: ("model", "provider"),
    By.DAY: (f"intended_at / {DAY_MS}", "NULL"),
}
_FIRST = {By.DAY: "name DESC"}

_NOT_TAKEN = "(outcome = 'rejected' AND coalesce(error_code, '') = 'resolved_by_person')"
"""By the word of a person who looked (`ledger.BY_PERSON`): nothing failed."""

_FIGURES = {
    "submissions": "count(*)",
    "succeeded": "sum(CASE WHEN outcome = 'succeeded' THEN 1 ELSE 0 END)",
    "open": "sum(CASE WHEN outcome IN ('intended', 'accepted') THEN 1 ELSE 0 END)",
    "unclear": (
        "sum(CASE WHEN outcome = 'unknown' OR (outcome IN ('failed', 'rejected', 'abandoned')"
        " AND billed = 'unknown') THEN 1 ELSE 0 END)"
    ),
    "failed": (
        "sum(CASE WHEN outcome IN ('failed', 'rejected', 'abandoned') AND billed <> 'unknown'"
        f" AND NOT {_NOT_TAKEN} THEN 1 ELSE 0 END)"
    ),
    "not_taken": f"sum(CASE WHEN {_NOT_TAKEN} AND billed <> 'unknown' THEN 1 ELSE 0 END)",
    "cost_micros": "sum(CASE WHEN billed <> 'no' THEN coalesce(cost_micros, 0) ELSE 0 END)",
    "open_micros": "sum(CASE WHEN billed <> 'no' AND cost_micros IS NULL THEN estimate_micros ELSE 0 END)",
}
_NAMES = """
WITH RECURSIVE names(name) AS (
  SELECT min(provider) FROM submission
  UNION ALL
  SELECT (SELECT min(s.provider) FROM submission s WHERE s.provider > names.name)
  FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL"""


@dataclass(frozen=True, slots=True)
class Span:
    """What is added up: submissions intended in `since <= t < until` (milliseconds), of one tenant or of all."""

    since: int
    until: int
    tenant: str | None = None


def usage(tx: Tx, span: Span, by: By, *, limit: int) -> tuple[list[Row], Row]:
    """Up to `limit` groups, the dearest first (days: the latest), and the sum of all groups.

    Rows: `name`, `provider` (of a model), `submissions` = `succeeded` + `failed` + `not_taken` + `open` +
    `unclear`; `cost_micros` is what is known, `open_micros` the estimates of what is not. Read by index, provider by
    provider.
    """
    name, provider = _KEYS[by]
    names = [row["name"] for row in tx.all(_NAMES)]
    where = f"provider {tx.among} AND intended_at >= :since AND intended_at < :until"
    values: dict[str, object] = {"ids": tx.of(names), "since": span.since, "until": span.until, "limit": limit}
    if span.tenant is not None:
        where, values = f"{where} AND tenant_id = :tenant", values | {"tenant": span.tenant}
    figures = ", ".join(f"{sql} AS {figure}" for figure, sql in _FIGURES.items())
    grouped = (
        f"WITH parts AS (SELECT {name} AS name, {provider} AS provider, {figures} FROM submission WHERE {where}"
        f" GROUP BY {', '.join(part for part in (name, provider) if part != 'NULL')})"
    )
    order = _FIRST.get(by, "cost_micros + open_micros DESC, name, provider")
    rows = tx.all(f"{grouped} SELECT * FROM parts ORDER BY {order} LIMIT :limit", values)
    sums = ", ".join(f"coalesce(sum({figure}), 0) AS {figure}" for figure in _FIGURES)
    total = tx.one(f"{grouped} SELECT NULL AS name, NULL AS provider, {sums} FROM parts", values)
    assert total is not None
    return [_whole(row) for row in rows], _whole(total)


def _whole(row: Row) -> Row:
    """PostgreSQL adds whole numbers up to decimals."""
    return row | {figure: int(row[figure]) for figure in _FIGURES}
