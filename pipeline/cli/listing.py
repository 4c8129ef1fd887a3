"""Lists that are read page by page and shown as a table or as JSON."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from pipeline.cli.client import DEAD, DELIVERIES, PATH, Client
from pipeline.cli.tables import dead_table, deliveries_table, generations_table, groups_table
from pipeline.cli.words import json_text

_FILTERS = {
    "status": "status",
    "user": "userId",
    "provider": "provider",
    "model": "model",
    "error": "errorCode",
    "generation_id": "generationId",
    "since": "createdAfter",
    "until": "createdBefore",
}


def generation_query(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The query of `list`'s options. Pure."""
    query = {name: asked.get(option) for option, name in _FILTERS.items()}
    query |= {f"metadata.{name}": value for name, value in (asked.get("metadata") or {}).items()}
    return query | {"order": "asc" if asked.get("oldest") else None}


async def list_generations(client: Client, query: Mapping[str, Any], most: int | None, *, as_json: bool) -> str:
    """Up to `most` generations (None: all), as text. Raises CommandError."""
    page = await client.pages(PATH, query, most)
    if as_json:
        return json_text(page)
    return generations_table(page["data"], time.time(), terminal_width()) + more_text(page)


async def list_dead(client: Client, asked: Mapping[str, Any], most: int | None, *, as_json: bool) -> str:
    """Up to `most` dead letters (None: all), or all their groups, as text. Raises CommandError."""
    query = {"kind": asked["kind"], "errorCode": asked["error"]}
    query |= {"provider": asked["provider"], "endpoint": asked["endpoint"]}
    if asked["grouped"]:
        page = await client.get(DEAD, {**query, "group": "error"})
    else:
        page = await client.pages(DEAD, query, most)
    if as_json:
        return json_text(page)
    shown = groups_table if asked["grouped"] else dead_table
    return shown(page["data"], time.time(), terminal_width()) + more_text(page)


async def list_deliveries(client: Client, asked: Mapping[str, Any], most: int | None, *, as_json: bool) -> str:
    """Up to `most` deliveries (None: all), as text. Raises CommandError."""
    query = {name: asked[name] for name in ("state", "endpoint", "generation", "since")} | {"type": asked["kind"]}
    page = await client.pages(DELIVERIES, query, most)
    if as_json:
        return json_text(page)
    return deliveries_table(page["data"], time.time(), terminal_width()) + more_text(page)


def more_text(page: Mapping[str, Any]) -> str:
    """What to know when a list goes on."""
    return "\n(there are more: --all, or a larger --limit)" if page.get("hasMore") else ""


def terminal_width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and is to be whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
