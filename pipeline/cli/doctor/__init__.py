"""`dailies doctor`: looks at everything that a working service needs and says what would mend it.

::

    verdict     Check: ok, warning or failure, and the report
    setup       settings, secrets, exposure           asks nobody
    database    schema, writing, place, workers, clock
    disk        DATA_DIR, room, which filesystem
    files       storage, its links, its clock
    hook        the webhook's target, with `sample`'s event
    others      the provider, and ourselves under PUBLIC_URL
    history     what was done so far, on request
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

from pipeline.cli.doctor.database import examine_database
from pipeline.cli.doctor.disk import disk_checks
from pipeline.cli.doctor.files import clock_checks, storage_checks
from pipeline.cli.doctor.history import history_checks
from pipeline.cli.doctor.hook import webhook_checks
from pipeline.cli.doctor.others import provider_checks, public_checks
from pipeline.cli.doctor.setup import exposure_checks, secret_checks, settings_checks
from pipeline.cli.doctor.verdict import Check, Verdict, failure, report_text
from pipeline.cli.effective import read_given
from pipeline.config import Settings, SettingsError, load_settings
from pipeline.outbound import Outbound
from pipeline.safety import resolve_secrets

__all__ = ["NAMES", "Check", "Verdict", "examine", "report_text"]

NAMES = (
    "settings",
    "secrets",
    "exposure",
    "disk",
    "database",
    "worker",
    "storage",
    "provider",
    "webhook",
    "address",
    "clock",
    "history",
)
"""Of the checks, in the order of the report."""
SECONDS = 30.0
"""For one check that asks others; they are asked side by side."""


async def examine(
    *, skip: Collection[str] = (), history: bool = False, now: Callable[[], float] = time.time
) -> list[Check]:
    """Every check but the skipped ones, in the order of NAMES. Reads the settings itself. Every generation's history is
    read only where that is asked for."""
    given = read_given()
    try:
        settings = load_settings()
    except SettingsError as error:
        return list(settings_checks(given, None, str(error)))
    found = [*settings_checks(given, settings), *secret_checks(settings), *disk_checks(settings)]
    database = await asyncio.to_thread(examine_database, settings)
    found += [*exposure_checks(settings, keys_exist=database.keys_exist), *database.checks]
    found += await _ask_others(settings, skip, now)
    if history and not any(check.name == "database" and check.verdict is Verdict.FAILURE for check in found):
        found += await history_checks(settings)
    return sorted((check for check in found if check.name not in skip), key=lambda check: NAMES.index(check.name))


async def _ask_others(settings: Settings, skip: Collection[str], now: Callable[[], float]) -> list[Check]:
    outbound = Outbound(settings)
    asked: dict[str, Callable[[], Awaitable[list[Check]]]] = {
        "storage": lambda: storage_checks(settings, outbound),
        "provider": lambda: provider_checks(settings, outbound),
        "webhook": lambda: _webhook(settings, outbound, now),
        "address": lambda: public_checks(settings, outbound),
        "clock": lambda: clock_checks(settings, outbound),
    }
    try:
        parts = [_bounded(name, ask) for name, ask in asked.items() if name not in skip]
        return [check for part in await asyncio.gather(*parts) for check in part]
    finally:
        await outbound.aclose()


async def _bounded(name: str, ask: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    """A check that ends, whatever it meets."""
    try:
        async with asyncio.timeout(SECONDS):
            return await ask()
    except TimeoutError:
        return [failure(name, f"no answer within {SECONDS:g} s", "see whether the other side is up")]


async def _webhook(settings: Settings, outbound: Outbound, now: Callable[[], float]) -> list[Check]:
    try:
        secrets = resolve_secrets(settings)
    except SettingsError:
        return []  # told by the check of the secrets; nothing can be signed
    return await webhook_checks(settings, secrets, outbound, now)
