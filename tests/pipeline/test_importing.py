"""From a laptop's file to PostgreSQL: nothing is lost, nothing is done twice, and what would be is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.db import Database, SchemaBehind, Tx
from pipeline.db.migrate import current, migrate
from pipeline.db.moving import ALIVE_MS
from pipeline.keys import Box
from pipeline.outbox import SEALING
from tests.cli_place import dailies
from tests.house import House, eventually, open_house
from tests.pipeline.engines import Place, PostgresServer

pytestmark = pytest.mark.anyio

SECRET, HOOK = "a secret of sixteen and more", "whsec_" + "QUFB" * 8
NUMBERED = ("job", "timeline")


@pytest.fixture
def target(postgres_server: PostgresServer) -> Iterator[Place]:
    """A database of its own, since its sequences must be new."""
    place = Place(postgres_server.url(postgres_server.create("dailies_template")))
    yield place
    place.close()


def bring(file: Path, target: Place, *options: str, **env: str) -> Any:
    values = {"DATABASE_URL": target.url, "SECRET_KEY": SECRET, "WEBHOOK_SECRET": HOOK, "DATA_DIR": str(file.parent)}
    return dailies("import-sqlite", str(file), *options, env=values | env)


def laptop(**more: Any) -> dict[str, Any]:
    return {
        "secret_key": SECRET,
        "webhook_secret": HOOK,
        "on_unknown_submit": "hold",
        "mock_recovery": "none",
        "max_in_flight": 4,
    } | more


async def grow(house: House) -> None:
    """Jobs in every state: ended, failed, held, running, waiting; deliveries that arrived and one that is dead."""
    for prompt in ("a fox", "[[fail:final]]"):
        await house.ended((await house.submit(prompt, userId="ann"))["id"])
    await house.webhooks(2)
    house.answers[:] = [500] * 50
    await house.ended((await house.submit("a hare whose webhook fails"))["id"])

    async def dead() -> int:
        return int(await house.plant.db.read(lambda tx: tx.value("SELECT count(*) FROM job WHERE status = 'dead'")))

    await eventually(dead, lambda count: count == 1, 20)
    house.answers.clear()
    await house.reached((await house.submit("[[drop-submit:1]] an owl"))["id"], "held")
    for number in range(6):
        await house.submit(f"[[slow:1]] later {number}", generationId=f"mine-{number}", userId=f"user {number % 2}")

    async def paid() -> int:
        return len(await house.ledger())

    await eventually(paid, lambda count: count >= 6, 20)


COUNTED = ("generation", "job", "submission", "timeline", "webhook_event", "webhook_delivery", "webhook_attempt")


def count(tx: Tx) -> dict[str, int]:
    return {table: int(tx.value(f"SELECT count(*) FROM {table}")) for table in COUNTED}


async def test_a_grown_laptop_goes_on_with_postgresql_and_pays_nothing_twice(tmp_path: Path, target: Place) -> None:
    """One turn was never recorded: its process was killed. Another worker brings all to its end."""
    file = tmp_path / "dailies.db"
    async with open_house(tmp_path, **laptop(database_url=f"sqlite:///{file}")) as house:
        await grow(house)
    before = as_if_killed(file)
    done = await asyncio.to_thread(bring, file, target)
    assert done.exit_code == 0, done.output
    assert "counted and summed on both sides" in done.output
    db = target.open()
    assert db.read_now(count) == before
    assert db.read_now(lambda tx: tx.value("SELECT count(*) FROM job WHERE locked_by IS NOT NULL")) == 0
    async with open_house(tmp_path, **laptop(database_url=target.url)) as house:
        for number in range(6):
            assert (await house.ended(f"mine-{number}", 30))["status"] == "completed"
        assert (await house.ended((await house.submit("new here"))["id"]))["status"] == "completed"
        paid = [entry["prompt"] for entry in await house.ledger()]
        assert sorted(paid) == sorted(set(paid))
        assert len(paid) == 11
        await house.webhooks(7)
        terminal = "SELECT generation_id FROM webhook_event WHERE terminal = 1"
        told = await house.plant.db.read(lambda tx: [row["generation_id"] for row in tx.all(terminal)])
        assert len(told) == len(set(told)) == 10
    (held,) = db.read_now(lambda tx: tx.all("SELECT stage FROM generation WHERE finished_at IS NULL"))
    assert held["stage"] == "held"


def as_if_killed(file: Path) -> dict[str, int]:
    """Make it so that a turn was taken and nobody records it any more; how many rows there are."""
    with sqlite3.connect(file) as connection:
        met = connection.execute(
            "UPDATE job SET status = 'processing', locked_by = 'gone', locked_until = scheduled_for, fence = fence + 1"
            " WHERE id = (SELECT max(id) FROM job WHERE status = 'pending' AND step = 'poll')"
        ).rowcount
        assert met == 1
        states = {state for (state,) in connection.execute("SELECT status FROM job")}
        assert states == {"waiting", "pending", "processing", "done", "dead"}
        counts = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COUNTED}
    connection.close()
    return counts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small installation that is stopped: a job that was being worked on, two lines, an endpoint with a secret."""
    path = tmp_path / "dailies.db"
    db = Database(f"sqlite:///{path}")
    migrate(db.engine)
    sealed = Box([SECRET], SEALING).seal("whsec_x", "sec_1")

    def fill(tx: Tx) -> None:
        job = {"kind": "generation", "tenant_id": "default", "lane": "provider:mock", "step": "poll"}
        taken = {"status": "processing", "locked_by": "w", "locked_until": 1_234, "fence": 7, "claims_unrecorded": 1}
        zero = dict.fromkeys(("sort_at", "scheduled_for", "attempts", "polls", "wake_seq", "cancel_requested"), 0)
        tx.insert("job", job | zero | taken | {"id": 41, "subject_id": "gen_1"})
        line = {"generation_id": "gen_1", "tenant_id": "default", "run": 1, "at": 5, "event": "accepted"}
        for number, detail in ((70, None), (71, "a\x00b \U0001f98a")):
            tx.insert("timeline", line | {"id": number, "detail": detail})
        secret = {"id": "sec_1", "tenant_id": "default", "endpoint_id": "wep_1", "kind": "v1", "hint": "x"}
        tx.insert("webhook_secret", secret | {"sealed": sealed, "created_at": 1})

    asyncio.run(db.write(fill))
    db.close()
    return path


def test_a_lease_is_given_back_numbers_go_on_and_the_file_is_closed(file: Path, target: Place) -> None:
    trial = bring(file, target, "--dry-run")
    assert trial.exit_code == 0, trial.output
    assert "nothing was kept" in trial.output
    done = bring(file, target)
    assert done.exit_code == 0, done.output
    assert "1 with a NUL character" in done.output
    db = target.open()
    (job,) = db.read_now(lambda tx: tx.all("SELECT * FROM job"))
    assert (job["status"], job["locked_by"], job["scheduled_for"]) == ("pending", None, 1_234)
    assert (job["id"], job["fence"], job["claims_unrecorded"]) == (41, 7, 1)
    assert db.read_now(lambda tx: tx.value("SELECT detail FROM timeline WHERE id = 71")) == "a\ufffdb \U0001f98a"
    for table, last in zip(NUMBERED, (41, 71), strict=True):
        with db.engine.connect() as connection:
            assert connection.exec_driver_sql(f"SELECT nextval('{table}_id_seq')").scalar() == last + 1
    old = Database(f"sqlite:///{file}")
    with pytest.raises(SchemaBehind, match="was moved to PostgreSQL"):
        migrate(old.engine)
    old.close()
    assert "was moved before" in bring(file, target).output
    assert "is not empty (table" in bring(file, target, "--again").output


def test_an_import_that_died_between_both_commits_is_begun_again(file: Path, target: Place) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'moved-' || version_num")
    connection.close()
    assert bring(file, target).exit_code == 2
    assert bring(file, target, "--again").exit_code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE alembic_version SET version_num = '0004'", "is at revision 0004, this version needs"),
        ("DROP TABLE alembic_version", "has no tables of dailies"),
        (
            "INSERT INTO worker VALUES ('w', 'laptop', 77, '1', 0, CAST(strftime('%s', 'now') AS int) * 1000)",
            "a worker (host laptop, pid 77) signed in",
        ),
        ("UPDATE webhook_secret SET sealed = '00000000.AAAA'", "1 of 1 sealed secrets of endpoints cannot be opened"),
        ("UPDATE job SET polls = 99999999999", "table job cannot be kept by PostgreSQL"),
    ],
)
def test_what_would_lose_or_double_something_is_refused(file: Path, target: Place, change: str, words: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(change)
    connection.close()
    refused = bring(file, target)
    assert refused.exit_code == 2
    assert words in refused.output
    db = target.open()
    assert db.read_now(lambda tx: tx.value("SELECT count(*) FROM job")) == 0


def test_a_file_that_a_process_has_open_is_refused(file: Path, target: Place) -> None:
    """An idle connection is enough: an API without a worker would take orders that nobody sees any more."""
    db = Database(f"sqlite:///{file}")
    db.read_now(lambda tx: tx.value("SELECT 1"))
    refused = bring(file, target)
    assert refused.exit_code == 2
    assert "is in use" in refused.output
    db.close()
    assert bring(file, target).exit_code == 0


def test_a_target_that_somebody_uses_or_that_does_not_fit_is_refused(
    file: Path, target: Place, postgres_server: PostgresServer
) -> None:
    assert "names no PostgreSQL" in bring(file, target, DATABASE_URL=f"sqlite:///{file}").output
    bare = Place(postgres_server.url(postgres_server.create()))
    assert "is empty: run `dailies migrate`" in bring(file, bare).output
    db = target.open()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO lane (name, unknown_streak) VALUES ('x', 0)")
        assert "somebody works in the PostgreSQL database" in bring(file, target).output
    assert "table lane has rows" in bring(file, target).output
    assert current(db.engine) is not None


def test_the_secrets_must_be_those_of_before(file: Path, target: Place) -> None:
    (file.parent / "secrets").write_text('{"SECRET_KEY": "made by the laptop"}')
    refused = bring(file, target)
    assert "SECRET_KEY is not the one in" in refused.output
    assert bring(file, target, SECRET_KEY=f"{SECRET},made by the laptop").exit_code == 0


def test_a_file_that_is_none_is_refused(tmp_path: Path, target: Place) -> None:
    (tmp_path / "x.db").write_text("x")
    assert "is no SQLite database" in bring(tmp_path / "x.db", target).output
    assert "is no SQLite database" in bring(tmp_path / "nowhere.db", target).output


def test_it_says_where_the_files_are(file: Path, target: Place) -> None:
    db = Database(f"sqlite:///{file}")
    db.close()
    with sqlite3.connect(file) as connection:
        needed = [row for row in connection.execute("PRAGMA table_info(generation)") if row[3] and row[4] is None]
        values = {row[1]: "x" if row[2] == "TEXT" else 0 for row in needed} | {
            "id": "gen_1",
            "video_key": "default/v.mp4",
        }
        names = ", ".join(values)
        connection.execute(
            f"INSERT INTO generation ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values())
        )
    connection.close()
    (file.parent / "files" / "default").mkdir(parents=True)
    (file.parent / "files" / "default" / "v.mp4").write_bytes(b"video")
    done = bring(file, target)
    assert done.exit_code == 0, done.output
    assert "1 videos and pictures stay in" in done.output


def test_the_documents_say_it_as_it_is() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for command in ("dailies import-sqlite --dry-run data/dailies.db", "dailies import-sqlite data/dailies.db"):
        assert f"`{command}`" in text
    assert {"--dry-run", "--again"} <= set(dailies("import-sqlite", "--help").output.split())
    assert f"{ALIVE_MS // 1000} s ago" in text
