"""What a version of ours says to its database, written down, and said again to a newer schema.

A process of the version before goes on while the schema is migrated; so its statements must still be right there. To
write them down anew for the next version, run this file in a checkout of the one before:
`python -m tests.pipeline.recorded > tests/pipeline/recorded_0004.json`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from tests.house import House, open_house
from tests.pipeline.engines import SqlitePlaces, start_postgres

SETTINGS = {
    "secret_key": "0123456789abcdef0123456789abcdef",
    "webhook_secret": "whsec_" + "QUFB" * 8,
    "lease": 1.0,
    "spend_per_day": "1000",
}
WRITES = {"INSERT", "UPDATE", "DELETE"}
MIND = WRITES | {"SELECT", "WITH"}

Said = tuple[int, Any, int]
"""The statement's number, its parameters, and how many rows it met (-1: not told)."""


class Recorder:
    """Keeps what was said in transactions that were committed, in the order of their commits."""

    def __init__(self, engine: Engine) -> None:
        self.statements: dict[str, int] = {}
        self.groups: list[list[Said]] = []
        self._open: dict[int, list[Said]] = {}
        event.listen(engine, "after_cursor_execute", self._heard)
        event.listen(engine, "commit", self._committed)
        event.listen(engine, "rollback", self._undone)

    def _heard(self, connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        word = statement.split(maxsplit=1)[0].upper()
        if word == "COMMIT":
            self._committed(connection)
        elif word == "BEGIN":
            self._undone(connection)
        elif word in MIND and "set_config" not in statement:
            number = self.statements.setdefault(statement, len(self.statements))
            self._open.setdefault(id(connection.connection.dbapi_connection), []).append(
                (number, parameters, cursor.rowcount)
            )

    def _committed(self, connection: Any) -> None:
        said = self._open.pop(id(connection.connection.dbapi_connection), [])
        if said:
            self.groups.append(said)

    def _undone(self, connection: Any) -> None:
        self._open.pop(id(connection.connection.dbapi_connection), None)

    def as_json(self) -> dict[str, Any]:
        """What reads is kept once: it need only be understood."""
        read: set[int] = set()
        kept = []
        statements = list(self.statements)
        for group in self.groups:
            said = [each for each in group if statements[each[0]].split()[0] in WRITES or each[0] not in read]
            read |= {number for number, _, _ in said}
            kept += [said] if said else []
        return {"statements": statements, "groups": kept}


async def live(house: House) -> None:
    """Some of everything: a failed poll, a renewed lease, a failed webhook, a refusal, a cancel, a repeated order."""
    house.answers[:] = [500]
    await house.ended((await house.submit("a fox [[slow:0.5]] [[503-poll:1]]", userId="ann"))["jobId"])
    await house.ended((await house.submit("[[slow-submit:1]] a hare", generationId="once"))["jobId"])
    again = await house.api.post(
        "/api/generations", json={"prompt": "[[slow-submit:1]] a hare", "generationId": "once"}
    )
    assert again.status_code == 200
    await house.ended((await house.submit("[[fail:final]]"))["jobId"])
    long = (await house.submit("[[slow:20]] an owl"))["jobId"]
    await house.reached(long, "generating")
    await house.api.post(f"/api/generations/{long}/cancel")
    await house.ended(long)
    await house.webhooks(3)


@contextmanager
def places() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        server = start_postgres()
        try:
            with SqlitePlaces(Path(folder)).new() as sqlite:
                yield {"sqlite": sqlite.url, "postgres": server.url(server.create("dailies_template"))}
        finally:
            server.stop()


async def record(url: str) -> dict[str, Any]:
    """A life on an empty, migrated database."""
    recorders: list[Recorder] = []
    with tempfile.TemporaryDirectory() as folder, hearing(recorders):
        async with open_house(Path(folder), database_url=url, **SETTINGS) as house:
            await live(house)
    (recorder,) = recorders
    return recorder.as_json()


@contextmanager
def hearing(recorders: list[Recorder]) -> Iterator[None]:
    """Every Database that is opened meanwhile is recorded from its first statement."""
    from pipeline.db import database

    plain = database.make_engine

    def heard(*given: Any, **named: Any) -> Engine:
        engine = plain(*given, **named)
        recorders.append(Recorder(engine))
        return engine

    database.make_engine = heard
    try:
        yield
    finally:
        database.make_engine = plain


def replay(connection: Connection, life: dict[str, Any], groups: slice) -> None:
    """Say it again, each group in a transaction; every statement must meet as many rows as it did."""
    for group in life["groups"][groups]:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        for number, parameters, rows in group:
            statement = life["statements"][number]
            met = connection.exec_driver_sql(statement, parameters).rowcount
            assert rows in {-1, met} or "RETURNING" in statement, (statement, parameters, rows, met)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("COMMIT")
        else:
            connection.commit()


def main() -> None:
    with places() as urls:
        told = {engine: asyncio.run(record(url)) for engine, url in urls.items()}
    json.dump(told, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
