"""What the ledger says: the submissions of a generation, and what they cost or may have."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.db import Row, Tx
from providers.base import ErrorCode, Operation

BY_PERSON = "resolved_by_person"
"""The error code of a call that a person closed."""

OPEN = "outcome IN ('intended', 'accepted', 'unknown')"
_OPEN = frozenset({"intended", "accepted", "unknown"})
_LOOKED_UP = ErrorCode.NOT_FOUND
"""The outcomes of a submission that may still cost or yield something."""


def open_submission(tx: Tx, generation_id: str) -> Row | None:
    """The one submission of a generation that may still cost or yield something."""
    return tx.one(f"SELECT * FROM submission WHERE generation_id = :id AND {OPEN}", {"id": generation_id})


def by_token(tx: Tx, token: str) -> Row | None:
    """The submission that carries this token."""
    return tx.one("SELECT * FROM submission WHERE token = :token", {"token": token})


def history(tx: Tx, generation_id: str) -> list[Row]:
    """All submissions of a generation, oldest first."""
    return tx.all("SELECT * FROM submission WHERE generation_id = :id ORDER BY id", {"id": generation_id})


def histories(tx: Tx, generation_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The same of many generations in one statement, by generation; those without any are absent."""
    found: dict[str, list[Row]] = {}
    sql = f"SELECT * FROM submission WHERE generation_id {tx.among} ORDER BY generation_id, id"
    for row in tx.all(sql, {"ids": tx.of(generation_ids)}):
        found.setdefault(row["generation_id"], []).append(row)
    return found


def open_of(submissions: Sequence[Row]) -> Row | None:
    """As `open_submission`, of a generation's history. Pure."""
    return next((row for row in submissions if row["outcome"] in _OPEN), None)


def count_of(submissions: Sequence[Row], run: int) -> int:
    """As `count`, of a generation's history. Pure."""
    refused = {row["id"] for row in submissions if row["outcome"] == "rejected" and row["error_code"] != _LOOKED_UP}
    return sum(row["run"] == run and row["id"] not in refused for row in submissions)


def last(tx: Tx, generation_id: str) -> Row | None:
    """The newest submission of a generation."""
    return tx.one("SELECT * FROM submission WHERE generation_id = :id ORDER BY id DESC LIMIT 1", {"id": generation_id})


def billed(tx: Tx, generation_id: str) -> str:
    """What is known of the charge for a generation, in whichever run: `yes` or `unknown` if that is so of one
    submission, else `no`."""
    words = {row["billed"] for row in history(tx, generation_id)}
    return next((word for word in ("yes", "unknown") if word in words), "no")


def owner(tx: Tx, provider: str, operation_id: str) -> Row | None:
    """The submission that has this operation of a provider."""
    return tx.one(
        "SELECT * FROM submission WHERE provider = :provider AND operation_id = :operation_id LIMIT 1",
        {"provider": provider, "operation_id": operation_id},
    )


def count(tx: Tx, generation_id: str, run: int) -> int:
    """How many submissions of a run may have been taken.

    Those that the provider refused, or that were never sent, are left out: attempts bound them, and a bad key or a rate
    limit says nothing of the run. What only a lookup did not find is counted.
    """
    return int(
        tx.value(
            "SELECT count(*) FROM submission WHERE generation_id = :id AND run = :run"
            " AND NOT (outcome = 'rejected' AND error_code <> :looked_up)",
            {"id": generation_id, "run": run, "looked_up": ErrorCode.NOT_FOUND},
        )
    )


def took_time(submission: Row) -> bool:
    """Whether a closed submission was more than a plain refusal: it was looked into, or taken and then failed. Pure."""
    if is_second(submission):
        return False
    return submission["outcome"] != "rejected" or submission["error_code"] in {ErrorCode.NOT_FOUND, BY_PERSON}


def may_have_cost(tx: Tx, generation_id: str) -> bool:
    """Whether anything was, or may have been, charged for a generation, in whichever run."""
    return bool(
        tx.value(
            "SELECT count(*) FROM submission WHERE generation_id = :id AND billed <> 'no'",
            {"id": generation_id},
        )
    )


def possible_cost(submissions: Sequence[Row]) -> int | None:
    """What was, or may have been, charged in micro-USD: reported costs, else estimates. None if surely nothing."""
    charged = [row for row in submissions if row["billed"] != "no"]
    if not charged:
        return None
    return sum(int(row["estimate_micros"] if row["cost_micros"] is None else row["cost_micros"]) for row in charged)


def operation_json(operation: Operation, token: str) -> str:
    """An operation as the generation row keeps it, with the token of the submission that made it."""
    return json.dumps({"id": operation.id, "data": dict(operation.data), "token": token})


def operation_of(submission: Row) -> str:
    """The same from the row of a submission whose operation is known."""
    operation = Operation(submission["operation_id"], json.loads(submission["operation"] or "{}"))
    return operation_json(operation, submission["token"])


def is_second(submission: Row) -> bool:
    """Whether a row is that of a second operation under another submission's token."""
    return "." in submission["token"]
