"""The OpenAPI 3.1 document from the table of operations and the models. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from pipeline.api.openapi.common import ALWAYS, KEYED, LIMIT_HEADERS, PROBLEM_HEADERS, REQUEST_ID, STATUS
from pipeline.api.openapi.parts import Header, Link, Operation, Parameter, Reply, Schema
from pipeline.api.problems import TITLES
from pipeline.schemas.responses import ProblemBody

Json = dict[str, Any]
Models = Mapping[type[BaseModel], str]

SHARED_HEADERS = {"X-Request-Id": REQUEST_ID, **LIMIT_HEADERS}
PROBLEM_MEDIA = "application/problem+json"
KEY, TOKEN = "key", "readToken"
SECURITY_SCHEMES = {
    KEY: {"type": "http", "scheme": "bearer", "description": "API_KEY, or a key made by `dailies keys create`"},
    TOKEN: {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "opens one generation for a browser, for as long as it says",
    },
}


class _Schemas(GenerateJsonSchema):
    """Without titles that repeat the names, and without `default: null` where null says nothing else than absence."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        return {name: value for name, value in made.items() if name != "default" or value is not None}


def build(info: Json, operations: Sequence[Operation], webhooks: Mapping[str, tuple[str, type[BaseModel]]]) -> Json:
    """The document. `webhooks` are (summary, body) by name."""
    schemas, names = _components(operations, [body for _, body in webhooks.values()])
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, names)
    responses = _shared_problems(paths)
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": {name: {"post": _webhook(name, *told, names)} for name, told in webhooks.items()},
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": {name: _header(header) for name, header in SHARED_HEADERS.items()},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def codes_of(operation: Operation) -> dict[int, list[str]]:
    """The problem codes that an operation may answer with, by status."""
    by_status: dict[int, list[str]] = {}
    for code in (*ALWAYS, *(KEYED if operation.scope else ()), *operation.problems):
        codes = by_status.setdefault(STATUS[code], [])
        if code not in codes:
            codes.append(code)
    return by_status


# --- schemas ----------------------------------------------------------------------------------------------------------


def _components(operations: Iterable[Operation], more: Iterable[type[BaseModel]]) -> tuple[Json, Models]:
    """Every schema that is named, and the name of each model."""
    inputs: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (o.body, "validation") for o in operations if isinstance(o.body, type)
    ]
    outputs: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemBody, "serialization")]
    outputs += [(m, "serialization") for o in operations for m in _reply_models(o)]
    outputs += [(m, "serialization") for m in more]
    asked = list(dict.fromkeys([*inputs, *outputs]))
    found, definitions = models_json_schema(
        asked, ref_template="#/components/schemas/{model}", schema_generator=_Schemas
    )
    names = {model: found[model, mode]["$ref"].rpartition("/")[2] for model, mode in asked}
    schemas = dict(sorted(definitions["$defs"].items()))
    schemas[names[ProblemBody]]["properties"]["code"]["enum"] = sorted(TITLES)
    return schemas, names


def _reply_models(operation: Operation) -> Iterator[type[BaseModel]]:
    for reply in operation.replies.values():
        yield from (content for content in reply.content.values() if isinstance(content, type))


def _schema(content: type[BaseModel] | Schema, names: Models) -> Json:
    return {"$ref": f"#/components/schemas/{names[content]}"} if isinstance(content, type) else dict(content)


# --- operations -------------------------------------------------------------------------------------------------------


def _operation(operation: Operation, names: Models) -> Json:
    made: Json = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        made["description"] = operation.description
    if operation.scope:
        made["security"] = [{KEY: []}, *([{TOKEN: []}] if operation.token else [])]
        made["x-scope"] = operation.scope.value
    if operation.parameters:
        made["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        media: Json = {"schema": _schema(operation.body, names)}
        if operation.example is not None:
            media["example"] = operation.example
        made["requestBody"] = {"required": operation.body_required, "content": {operation.body_media: media}}
    made["responses"] = _responses(operation, names)
    return made


def _parameter(parameter: Parameter) -> Json:
    made: Json = {"name": parameter.name, "in": parameter.place, "description": parameter.description}
    if parameter.required or parameter.place == "path":
        made["required"] = True
    if parameter.comma_list:
        made |= {"style": "form", "explode": False}
    return made | {"schema": dict(parameter.schema)}


def _responses(operation: Operation, names: Models) -> Json:
    limits = LIMIT_HEADERS if operation.scope else {}
    made = {status: _reply(reply, limits, names) for status, reply in operation.replies.items()}
    for status, codes in codes_of(operation).items():
        problem = _problem(status, codes, limits, names)
        made[status] = _both(made[status], problem) if status in made else problem
    return {str(status): made[status] for status in sorted(made)}


def _both(reply: Json, problem: Json) -> Json:
    """Where one status is an answer of its own and a problem as well, told apart by the media type."""
    return reply | {"content": reply.get("content", {}) | problem["content"]}


def _reply(reply: Reply, limits: Mapping[str, Header], names: Models) -> Json:
    made: Json = {"description": reply.description, "headers": _headers({**reply.headers, **limits})}
    if reply.content:
        made["content"] = {media: {"schema": _schema(model, names)} for media, model in reply.content.items()}
    if reply.links:
        made["links"] = {name: _link(link) for name, link in reply.links.items()}
    return made


def _problem(status: int, codes: list[str], limits: Mapping[str, Header], names: Models) -> Json:
    ours = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": _headers({**PROBLEM_HEADERS.get(status, {}), **limits}),
        "content": {PROBLEM_MEDIA: {"schema": {"allOf": [_schema(ProblemBody, names), ours]}}},
    }


def _shared_problems(paths: Mapping[str, Json]) -> Json:
    """Problems that several operations answer with, said once: `components/responses`, by their codes."""
    places: dict[str, list[tuple[Json, str]]] = {}
    for methods in paths.values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if list(response.get("content", ())) == [PROBLEM_MEDIA]:
                    limited = "limited-" if "RateLimit" in response["headers"] else ""
                    name = limited + response["description"].replace("`", "").replace(", ", "-")
                    places.setdefault(name, []).append((operation["responses"], status))
    shared = {}
    for name, found in sorted(places.items()):
        if len(found) > 1:
            shared[name] = found[0][0][found[0][1]]
            for responses, status in found:
                responses[status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def _headers(headers: Mapping[str, Header]) -> Json:
    shared = {name: {"$ref": f"#/components/headers/{name}"} for name, header in SHARED_HEADERS.items()}
    own = {name: _header(header) for name, header in headers.items() if SHARED_HEADERS.get(name) is not header}
    named = {"X-Request-Id", *headers}
    return {name: shared[name] for name in shared if name in named and name not in own} | own


def _header(header: Header) -> Json:
    made: Json = {"description": header.description, "schema": dict(header.schema)}
    return made | {"required": True} if header.always else made


def _link(link: Link) -> Json:
    return {"operationId": link.operation_id, "parameters": dict(link.parameters)}


def _webhook(name: str, summary: str, body: type[BaseModel], names: Models) -> Json:
    """What we send, and what we make of the answer."""
    text = {"type": "string"}
    headers = {
        "webhook-id": "the same on every attempt: the key against doubles",
        "webhook-timestamp": "Unix seconds of this attempt",
        "webhook-signature": "`v1,` and the HMAC (Standard Webhooks), once per live secret, separated by spaces",
    }
    return {
        "operationId": "on" + "".join(part.capitalize() for part in name.replace(".", " ").split()),
        "tags": ["webhooks"],
        "summary": summary,
        "security": [],
        "parameters": [
            {"name": header, "in": "header", "required": True, "description": why, "schema": text}
            for header, why in headers.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(body, names)}}},
        "responses": {
            "2XX": {"description": "It arrived. A repeat of what you have is answered so, too."},
            "410": {"description": "Send nothing more: the endpoint is switched off."},
            "default": {"description": "It is tried again, ten times over three days (`WEBHOOK_SCHEDULE`)."},
        },
    }
