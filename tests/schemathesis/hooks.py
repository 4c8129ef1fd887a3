"""What schemathesis is told about the service beyond the document: what its settings offer, and which refusals
depend on what happened before."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import RejectedPositiveData

from providers.catalogue import load_catalogue
from providers.mock.render import ASPECT_RATIOS, RESOLUTIONS

OF_THE_MOMENT = frozenset(
    {
        "idempotency_conflict",  # the key was used for another body
        "gone",  # the generation was deleted
        "not_held",  # no paid call of it is unclear
        "still_under_way",
        "operation_unknown",
        "operation_taken",
        "video_gone",
        "range_not_satisfiable",  # outside the file as it is
        "set_by_settings",  # the endpoint of WEBHOOK_URL
        "too_many",  # endpoints of a tenant, secrets of an endpoint
        "callback_refused",  # what a provider sends is its own affair: the document does not know it
    }
)
"""Codes that refuse a request which is well formed."""


ORDERS = ("POST /api/generations", "POST /api/generations/estimate")
LANES = ("provider:mock", "user:alice", "*", "everything")
BOUNDED = {"since": 30, "until": 0}
"""Days ago: the time between the two may not be more than some 400 days, which no schema can say."""
MODEL = load_catalogue("mock").models["mock-1"]


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Narrow what may be asked to what the mock offers, so that all of it has to be taken and all else refused."""
    schemas = raw_schema["components"]["schemas"]
    asked, parameters = schemas["GenerationCreate"]["properties"], schemas["Parameters"]["properties"]
    asked["prompt"]["maxLength"] = MODEL.max_prompt
    for members, name, values in [
        (asked, "provider", ["mock"]),
        (parameters, "aspectRatio", list(ASPECT_RATIOS)),
        (parameters, "resolution", list(RESOLUTIONS)),
    ]:
        members[name] = {"enum": [*values, None]}
    schemas["FallbackInput"]["properties"]["provider"] = {"enum": ["mock"]}
    parameters["duration"] = {
        "type": ["integer", "null"],
        "minimum": MODEL.durations[0],
        "maximum": MODEL.durations[-1],
    }
    _narrow_endpoints(schemas)
    for name in ("Pause", "Resume"):
        schemas[name]["properties"]["lane"] = {"enum": [*LANES, None]}
        schemas[name]["properties"]["tenant"] = {"type": "null"}  # goes with a user alone
    _many = schemas["GenerationRequest"]["anyOf"][1]
    _many["items"] = {}  # what is wrong with an item is said in its place, and refuses no other
    schemas["Recover"]["properties"]["until"] = {"type": "null"}  # not before `since`, which no schema can say
    for parameter in raw_schema["paths"]["/api/usage"]["get"]["parameters"]:
        if parameter["name"] in BOUNDED:
            day = datetime.now(UTC) - timedelta(days=BOUNDED[parameter["name"]])
            parameter["schema"] = {"enum": [day.strftime("%Y-%m-%dT%H:%M:%SZ")]}
    schemas["WebhookInput"]["properties"]["url"]["pattern"] = r"^https?://hooks\.example\.com(/[a-z]{0,20})?$"


def _narrow_endpoints(schemas: dict[str, Any]) -> None:
    """Endpoints at which nobody answers, with headers that nobody else sets, and secrets that are made there."""
    for name in ("EndpointCreate", "EndpointUpdate"):
        members = schemas[name]["properties"]
        members["url"]["pattern"] = r"^http://127\.0\.0\.1:1(/[a-z]{0,20})?$"
        value = members["headers"]["additionalProperties"]
        members["headers"] = {"type": "object", "properties": {"X-A": value}, "additionalProperties": False}
    for name in ("EndpointCreate", "SecretRotate"):
        schemas[name]["properties"]["secret"] = {"type": "null"}


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Nothing is paused for long. Of what is asked for, half fails, and each body has a key and an id of its own:
    small ones come again and again, and most requests would only be conflicts."""
    body, good = case.body, case.meta is not None and case.meta.generation.mode.is_positive
    if good and isinstance(body, dict) and case.operation.label == "POST /api/queue/pause":
        body["seconds"] = 1
    if isinstance(body, dict) and case.operation.label in ORDERS:
        _known_model(body)
    if good and isinstance(body, dict) and case.operation.label in ORDERS:
        _tame(body)
    if good and isinstance(body, dict) and case.operation.label == "POST /api/generations":
        _vary(case, body)
    return case


def _known_model(body: dict[str, Any]) -> None:
    """A model that the catalogue does not know is taken whatever else is asked, and fails later: it would hide all."""
    model = body.get("model")
    if isinstance(model, str) and 0 < len(model) <= 128 and "\0" not in model:
        body["model"] = MODEL.id


def _tame(body: dict[str, Any]) -> None:
    """What JSON Schema has no word for: `extra` is bounded as a whole and may not hold certain characters at any depth,
    and nobody is asked twice for the same model."""
    if isinstance(body.get("extra"), dict):
        body["extra"] = {"tag": len(body["extra"])}
    for number, each in enumerate(body.get("fallback") or ()):
        each.update({"model": f"other-{number}"} | ({"extra": {"tag": number}} if "extra" in each else {}))


def _vary(case: schemathesis.Case, body: dict[str, Any]) -> None:
    mark = hashlib.sha256(repr(body).encode()).hexdigest()[:8]
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"{mark}{case.headers['Idempotency-Key']}"[:255]
    if isinstance(body.get("generationId"), str):
        body["generationId"] = f"{mark}{body['generationId']}"[:128]
    if int(mark, 16) % 2 == 0:
        body["prompt"] = "[[fail:moderation]] a fox"
        case.headers["Prefer"] = "wait=2"  # so that what a link leads to has ended


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Of the three ways to name a lane one at a time, which OpenAPI has no word for."""
    named = {"lane", "provider", "endpoint"} & set(case.query or {})
    return case.operation.label != "GET /api/queue/dead" or len(named) < 2


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case, response: Response
) -> bool:
    """Whether a failure counts: a refusal for what happened before is none."""
    return not (isinstance(failure, RejectedPositiveData) and response.json().get("code") in OF_THE_MOMENT)


def _cursor(form: str) -> strategies.SearchStrategy[str]:
    """Cursors, which are opaque to those who only read the document."""
    places = strategies.integers(0, 2**48).map(form.format)
    return places.map(lambda place: base64.urlsafe_b64encode(place.encode()).decode().rstrip("="))


schemathesis.openapi.format("cursor", _cursor("gen_{:032x}"))
schemathesis.openapi.format("delivery-cursor", _cursor("dlv_{:032x}"))
schemathesis.openapi.format("endpoint-cursor", _cursor("ep_{:032x}"))
schemathesis.openapi.format("user-cursor", _cursor("default/{:032x}"))
schemathesis.openapi.format("recovery-cursor", _cursor("rcv_{:032x}"))
schemathesis.openapi.format("dead-cursor", _cursor("{0}:{0}"))
schemathesis.openapi.format("held-cursor", _cursor("{0}:gen_{0:032x}"))
