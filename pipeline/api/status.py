"""Is it well: `/healthz`, `/readyz`."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline import __version__
from pipeline.api.auth import service_of
from pipeline.api.queue_status import workers
from pipeline.db import Tx
from pipeline.db.migrate import head
from pipeline.telemetry import emit


async def healthz(request: Request) -> Response:
    """This process answers. Nothing else is looked at."""
    return JSONResponse({"status": "ok", "version": __version__})


async def readyz(request: Request) -> Response:
    """The database answers, its schema fits, and a worker is alive; 503 with what is missing."""
    service = service_of(request)
    checks: dict[str, str] = {}
    try:
        found = await service.db.read(_revision)
        alive = await service.db.read(lambda tx: len(workers(tx)))
        checks["database"] = "ok" if found == head() else f"schema {found}, needed {head()}: run `dailies migrate`"
        checks["worker"] = "ok" if alive else "none has been seen in the last 90 s: start `dailies worker`"
    except Exception as error:  # whatever the driver raises means: not ready; its words may name hosts and users
        emit("request.failed", level=logging.WARNING, path="/readyz", error=str(error))
        checks["database"] = f"does not answer ({type(error).__name__}); the reason is in the log"
    ready = all(value == "ok" for value in checks.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503)


def _revision(tx: Tx) -> str | None:
    found = tx.value("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)
