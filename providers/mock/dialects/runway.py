"""Runway's dialect (see `providers.runway` for its wire), under `/runway`.

    POST   /v1/text_to_video, /v1/image_to_video   200 {"id", "estimatedCost"}
    GET    /v1/tasks/{id}                          the task
    DELETE /v1/tasks/{id}                          204; refunded if it had not begun. What had ended is forgotten

Errors are {"error": text}. What fails by moderation (SAFETY.INPUT.TEXT) is charged, all else is refunded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.base import Audio, Capabilities, Media, VideoRequest
from providers.catalogue import load_catalogue, load_native
from providers.checks import check
from providers.mock import members
from providers.mock.body import origin, read_object, require_bearer
from providers.mock.dialect import Dialect, silent
from providers.mock.order import Order, Refusal, dialect_order
from providers.mock.studio import Studio, uuid_id
from providers.mock.work import FAILURES, TERMINAL, Work
from providers.runway import MAX_DATA_URI, MAX_IMAGE_URL, MICROS_PER_CREDIT, VERSION, ratios, utf16_units

NAME = "runway"

_STATUSES = {
    "queued": "PENDING",
    "running": "RUNNING",
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
}
_CODES = {"moderation": "SAFETY.INPUT.TEXT", "internal": "INTERNAL", "final": "ASSET.INVALID"}
_WANT_RATIO = frozenset({"gen4.5", "gen4_turbo", "veo3.1", "veo3.1_fast"})
_WANT_DURATION = frozenset({"gen4.5"})
_ERRORS = {
    "unauthorized": (401, "The API key that was given is not valid."),
    "payment_required": (400, "You do not have enough credits to run this task."),
    "moderation": (400, "The prompt was rejected by our content policy."),
}


def read_order(raw: dict[str, Any], *, with_image: bool) -> Order:
    """Check a request's JSON. Raises Refusal 400 naming the member."""
    model = members.text(raw, "model") or ""
    if model not in load_catalogue(NAME).models:
        raise members.invalid("model: Invalid discriminator value")
    resolution, shape = _size(raw, model, with_image)
    first, last = _pictures(raw) if with_image else (None, None)
    if model in _WANT_DURATION and raw.get("duration") is None:
        raise members.invalid("duration: Required")
    asked = VideoRequest(
        _prompt(raw, model, with_image),
        model=model,
        duration=members.whole(raw, "duration"),
        aspect_ratio=shape,
        resolution=resolution,
        seed=members.whole(raw, "seed"),
        audio=members.flag(raw, "audio"),
        negative_prompt=members.text(raw, "negativePrompt"),
        image=first,
        last_image=last,
    )
    _require_possible(asked)
    return dialect_order(NAME, raw, asked, shown={}, charged_endings=frozenset({"moderation"}))


def _require_possible(asked: VideoRequest) -> None:
    catalogue = load_catalogue(NAME)
    wrong = check(asked, Capabilities(catalogue))
    if wrong:
        raise members.invalid(f"{wrong[0].pointer.rpartition('/')[2]}: {wrong[0].detail}")
    if asked.audio is not None and catalogue.models[asked.model or ""].audio is not Audio.OPTIONAL:
        raise members.invalid("audio: Unrecognized key")


def _prompt(raw: Mapping[str, Any], model: str, with_image: bool) -> str:
    prompt = members.text(raw, "promptText") or ""
    if not prompt and not with_image:
        raise members.invalid("promptText: Required")
    if utf16_units(prompt) > load_catalogue(NAME).models[model].max_prompt:
        raise members.invalid("promptText: Too big")
    return prompt


def _size(raw: Mapping[str, Any], model: str, with_image: bool) -> tuple[str | None, str | None]:
    """Resolution and aspect ratio. Raises Refusal."""
    ratio = members.text(raw, "ratio")
    if model in load_native(NAME)["plain"]:
        return members.text(raw, "resolution"), ratio
    sizes = ratios(model, with_image=with_image)
    found = {word: (size, shape) for size, shapes in sizes.items() for shape, word in shapes.items()}
    if ratio is None and model in _WANT_RATIO:
        raise members.invalid("ratio: Required")
    if ratio is not None and ratio not in found:
        raise members.invalid(f"ratio: expected one of {', '.join(found)}")
    return found[ratio] if ratio else (None, None)


def _pictures(raw: Mapping[str, Any]) -> tuple[Media, Media | None]:
    given = raw.get("promptImage")
    if isinstance(given, str):
        return _picture(given), None
    frames = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    pictures = {each.get("position"): each.get("uri") for each in frames}
    if "first" not in pictures or not set(pictures) <= {"first", "last"}:
        raise members.invalid("promptImage: expected a URI, or a list with one for the first frame")
    return _picture(pictures["first"]), _picture(pictures["last"]) if "last" in pictures else None


def _picture(uri: object) -> Media:
    if not isinstance(uri, str):
        raise members.invalid("promptImage: expected a string")
    as_data = uri.startswith("data:image/") and ";base64," in uri[:100] and len(uri) < MAX_DATA_URI
    if not as_data and not (uri.startswith(("https://", "runway://")) and len(uri) <= MAX_IMAGE_URL):
        raise members.invalid("promptImage: expected an HTTPS URL or a base64 data URI of less than 5MB")
    return Media(url=uri)


def show(work: Work, status: str, now: float, url: str | None) -> dict[str, Any]:
    """The task as Runway tells it; a status that is none of its words is passed on."""
    created = datetime.fromtimestamp(work.created_at, UTC).isoformat(timespec="milliseconds")
    task: dict[str, Any] = {"id": work.id, "createdAt": created.replace("+00:00", "Z")}
    task["status"] = _STATUSES.get(status, status)
    if status not in TERMINAL:
        task["estimatedCost"] = cost_of(work.charged_micros)
        return task if status == "queued" else task | {"progress": work.progress(now)}
    task["cost"] = cost_of(work.cost_micros(now))
    if status == "failed":
        return task | {"failure": FAILURES[work.ending], "failureCode": _CODES[work.ending]}
    return task | {"output": [url]} if status == "succeeded" else task


def cost_of(micros: int) -> dict[str, int]:
    """So many micro-USD in credits."""
    return {"credits": micros // MICROS_PER_CREDIT}


class _Runway:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._deleted: set[str] = set()

    async def text_to_video(self, request: Request) -> Response:
        return await self._submit(request, with_image=False)

    async def image_to_video(self, request: Request) -> Response:
        return await self._submit(request, with_image=True)

    async def _submit(self, request: Request, *, with_image: bool) -> Response:
        _require_access(request)
        order = read_order(await read_object(request), with_image=with_image)
        work = await self._studio.take(order, make_id=uuid_id)
        return JSONResponse({"id": work.id, "estimatedCost": cost_of(work.charged_micros)})

    async def poll(self, request: Request) -> Response:
        work = self._find(request)
        status = self._studio.look(work)
        url = self._studio.files.link(origin(request), work)[0] if status == "succeeded" else None
        return JSONResponse(show(work, status, self._studio.clock(), url))

    async def delete(self, request: Request) -> Response:
        work = self._find(request)
        status = work.status(self._studio.clock())
        if status in TERMINAL:
            self._deleted.add(work.id)
        self._studio.cancel(work, refund=status == "queued")
        return Response(status_code=204)

    def _find(self, request: Request) -> Work:
        _require_access(request)
        work = self._studio.find(request.path_params["id"], NAME)
        if work.id in self._deleted:
            raise Refusal(404, "not_found", "there is no such task")
        return work


def _require_access(request: Request) -> None:
    require_bearer(request)
    if request.headers.get("x-runway-version") != VERSION:
        raise Refusal(400, "invalid_request", f"X-Runway-Version: expected {VERSION}")


def _routes(studio: Studio) -> list[Route]:
    runway = _Runway(studio)
    return [
        Route("/v1/text_to_video", runway.text_to_video, methods=["POST"]),
        Route("/v1/image_to_video", runway.image_to_video, methods=["POST"]),
        Route("/v1/tasks/{id}", runway.poll, methods=["GET"]),
        Route("/v1/tasks/{id}", runway.delete, methods=["DELETE"]),
    ]


def _refuse(_: Request, refusal: Refusal) -> Response:
    status, message = _ERRORS.get(refusal.code, (refusal.status, refusal.message))
    return JSONResponse({"error": message}, status, refusal.headers)


DIALECT = Dialect(NAME, _routes, _refuse, silent)
