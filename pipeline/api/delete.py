"""`DELETE /api/generations/{id}`: its words and its files go, its tombstone stays."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pipeline import generations
from pipeline.api.auth import service_of, tenant_over
from pipeline.api.problems import Problem
from pipeline.api.service import Service
from pipeline.credentials import Scope
from pipeline.generations import NotEnded
from pipeline.storage import StorageError


async def delete(request: Request) -> Response:
    """204 once the files are gone. Repeating it finishes what was interrupted."""
    tenant = await tenant_over(request, Scope.SUBMIT)
    service, reference = service_of(request), request.path_params["id"]
    try:
        found = await service.db.write(lambda tx: generations.bury(tx, tenant, reference))
    except NotEnded as error:
        raise Problem(409, "not_ended", str(error)) from None
    if found is None:
        raise Problem(404, "not_found", f"there is no generation {reference!r}")
    row, keys = found
    request.state.generation = row["id"]
    await _remove(service, keys)
    await service.db.write(lambda tx: generations.buried(tx, row["id"]))
    return Response(status_code=204)


async def _remove(service: Service, keys: list[str]) -> None:
    try:
        for key in keys:
            await service.storage.delete(key)
    except StorageError as error:
        detail = f"the generation is deleted, but not all of its files are gone yet, repeat this: {error}"
        raise Problem(503, "storage_unavailable", detail, headers={"Retry-After": "5"}, retryable=True) from None
