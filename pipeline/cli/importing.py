"""What `import-sqlite` does: refuses what would lose or double something, moves, and says what is left to do."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli.base import CommandError
from pipeline.cli.schema import guarded
from pipeline.config import Settings
from pipeline.db import Database
from pipeline.db.migrate import require_head
from pipeline.db.moving import Moved, alone, move
from pipeline.keys import Box, CannotOpen
from pipeline.outbox import SEALING
from pipeline.safety import Secrets, resolve_secrets


def import_file(settings: Settings, file: Path, *, dry_run: bool, again: bool) -> Iterator[str]:
    """Move everything; yields what to tell people, line by line. Raises CommandError."""
    if settings.database.startswith("sqlite"):
        raise CommandError("DATABASE_URL names no PostgreSQL database: that is where it goes")
    with guarded():
        secrets = resolve_secrets(settings)
        db = Database(settings.database)
        try:
            require_head(db.engine)
            with alone(file, again=again) as source:
                _require_secrets(source, file, secrets)
                files = _files(source, settings)
                moved = move(source, db.engine, told=_progress, dry_run=dry_run)
        finally:
            db.close()
    yield from _table(moved)
    yield from _what_now(settings, file, files, dry_run)


def _require_secrets(source: sqlite3.Connection, file: Path, secrets: Secrets) -> None:
    """Links, callbacks and sealed secrets hold with the SECRET_KEY that made them, and with no other."""
    for name, known in (("SECRET_KEY", secrets.signing), ("WEBHOOK_SECRET", secrets.webhook)):
        used = _local(file.parent / "secrets").get(name)
        if used is not None and used not in known:
            raise CommandError(
                f"{name} is not the one in {file.parent / 'secrets'}: set that one (behind a comma, if you want a new"
                " one before it); if another one was set all the time, move that file away"
            )
    box = Box(secrets.signing, SEALING)
    sealed = [
        *source.execute("SELECT id, sealed FROM webhook_secret"),
        *source.execute("SELECT id, headers FROM webhook_endpoint WHERE headers IS NOT NULL"),
    ]
    lost = sum(not _opens(box, text, about) for about, text in sealed)
    if lost:
        raise CommandError(
            f"{lost} of {len(sealed)} sealed secrets of endpoints cannot be opened with this SECRET_KEY:"
            " set the one that was used so far"
        )


def _opens(box: Box, sealed: str, about: str) -> bool:
    try:
        box.open(sealed, about)
    except CannotOpen:
        return False
    return True


def _local(path: Path) -> dict[str, str]:
    """Secrets that a laptop made for itself."""
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None
    return known if isinstance(known, dict) else {}


_KEYS = """
SELECT video_key FROM generation WHERE video_key IS NOT NULL AND expired_at IS NULL AND deleted_at IS NULL
UNION SELECT input_key FROM generation WHERE input_key IS NOT NULL AND deleted_at IS NULL
UNION SELECT last_input_key FROM generation WHERE last_input_key IS NOT NULL AND deleted_at IS NULL"""


def _files(source: sqlite3.Connection, settings: Settings) -> int:
    """How many of the files that rows name lie in this machine's folder."""
    root = settings.data_dir / "files"
    return sum((root / key).is_file() for (key,) in source.execute(_KEYS))


def _progress(moved: Moved) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{moved.table} {moved.rows:,}\x1b[K", err=True, nl=False)


def _table(moved: list[Moved]) -> Iterator[str]:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    for each in moved:
        if each.rows:
            mended = f"  ({each.mended:,} with a NUL character, which became U+FFFD)" if each.mended else ""
            yield f"{each.table:<18}  {each.rows:>11,}{mended}"
    yield f"{'rows':<18}  {sum(each.rows for each in moved):>11,}  counted and summed on both sides"


def _what_now(settings: Settings, file: Path, files: int, dry_run: bool) -> Iterator[str]:
    if dry_run:
        yield "This was a trial: nothing was kept, and the file may be worked on as before."
        return
    folder = settings.data_dir / "files"
    if files and settings.uses_r2:
        prefix = f"/{settings.r2_prefix}" if settings.r2_prefix else ""
        yield (
            f"{files:,} videos and pictures lie in {folder}. Copy that folder into {settings.r2_bucket}{prefix} before"
            f" you start anything, such as with `rclone copy {folder} REMOTE:{settings.r2_bucket}{prefix}`."
        )
    elif files:
        yield (
            f"{files:,} videos and pictures stay in {folder}: only processes of this machine can serve them."
            " For several machines set R2_BUCKET and its companions, and copy them there."
        )
    yield f"{file} says that it was moved; no process will work on it. Start `dailies api` and `dailies worker` now."
