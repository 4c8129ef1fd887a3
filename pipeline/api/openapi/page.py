"""The document as one page of HTML: no script, nothing loaded from elsewhere, everything escaped. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from pipeline.api.openapi.style import CSS
from pipeline.api.openapi.types import members, type_of

Json = Mapping[str, Any]


def render(document: Json) -> str:
    """The whole page."""
    info, schemas = document["info"], document["components"]["schemas"]
    groups = _groups(document)
    body = [
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{prose(info['description'])}</p>",
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>, OpenAPI 3.1.</p>',
        *(part for tag, operations in groups.items() for part in _group(tag, operations)),
        '<h2 id="schemas">Schemas</h2>',
        *(_schema(name, schema) for name, schema in schemas.items()),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{CSS}</style></head><body>"
        f"<nav>{_contents(groups, schemas)}</nav><main>{''.join(body)}</main></body></html>"
    )


def prose(text: str) -> str:
    """Escaped text, with `code` where the document has it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _groups(document: Json) -> dict[str, list[tuple[str, str, Json]]]:
    """(method, path, operation) by tag, in the document's order; webhooks have no path but a name."""
    groups: dict[str, list[tuple[str, str, Json]]] = {}
    shared = document["components"]["responses"]
    for places in (document["paths"], document["webhooks"]):
        for path, methods in places.items():
            for method, operation in methods.items():
                answers = {
                    status: shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
                    for status, answer in operation["responses"].items()
                }
                whole = {**operation, "responses": answers}
                groups.setdefault(operation["tags"][0], []).append((method.upper(), path, whole))
    return groups


def _contents(groups: Mapping[str, list[tuple[str, str, Json]]], schemas: Json) -> str:
    made = []
    for tag, operations in groups.items():
        lines = "".join(
            f'<li><a href="#{escape(o["operationId"])}"><b class="{method}">{method}</b> {escape(path)}</a></li>'
            for method, path, o in operations
        )
        made.append(f'<h3><a href="#{escape(tag)}">{escape(tag)}</a></h3><ul>{lines}</ul>')
    names = "".join(f'<li><a href="#schema-{escape(name)}">{escape(name)}</a></li>' for name in schemas)
    return f'{"".join(made)}<h3><a href="#schemas">schemas</a></h3><ul>{names}</ul>'


def _group(tag: str, operations: list[tuple[str, str, Json]]) -> Iterator[str]:
    yield f'<h2 id="{escape(tag)}">{escape(tag.capitalize())}</h2>'
    for method, path, operation in operations:
        yield _operation(method, path, operation)


def _operation(method: str, path: str, operation: Json) -> str:
    name = escape(operation["operationId"])
    parts = [
        f'<section id="{name}"><h3><a class="anchor" href="#{name}"><b class="{method}">{method}</b>'
        f" <code>{escape(path)}</code></a> {escape(operation['summary'])}</h3>",
        f"<p>{prose(operation['description'])}</p>" if "description" in operation else "",
        _access(operation),
        _parameters(operation.get("parameters", [])),
        _body(operation.get("requestBody")),
        f"<pre>{escape(curl(method, path, operation))}</pre>" if path.startswith("/") else "",
        _responses(operation["responses"]),
        "</section>",
    ]
    return "".join(parts)


def _access(operation: Json) -> str:
    if "x-scope" not in operation:
        return ""
    token = ", or a read token as <code>?token=</code>" if len(operation["security"]) > 1 else ""
    return f"<p>Needs a key with the scope <code>{escape(operation['x-scope'])}</code>{token}.</p>"


def _parameters(parameters: list[Json]) -> str:
    rows = [
        (
            f"<code>{escape(p['name'])}</code>{' *' if p.get('required') else ''}",
            escape(p["in"]),
            type_of(p["schema"]),
            prose(p["description"]),
        )
        for p in parameters
    ]
    return _table(("Parameter", "in", "type", ""), rows)


def _body(body: Json | None) -> str:
    if body is None:
        return ""
    return "".join(
        f"<p>Body: {type_of(content['schema'])} as <code>{escape(media)}</code></p>"
        for media, content in body["content"].items()
    )


def curl(method: str, path: str, operation: Json) -> str:
    """The operation as a command that can be tried: names in capitals are to be filled in."""
    where = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), path)
    parts = [f"curl -i{'' if method == 'GET' else f' -X {method}'} http://localhost:8000{where}"]
    if "x-scope" in operation:
        parts.append("-H 'Authorization: Bearer KEY'")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        if "example" in content:
            example = json.dumps(content["example"], ensure_ascii=False).replace("'", "'\\''")
            parts += [f"-H 'Content-Type: {media}'", f"-d '{example}'"]
    return " \\\n  ".join(parts)


def _responses(responses: Json) -> str:
    rows = [
        (
            f"<code>{escape(status)}</code>",
            " or ".join(_media(media, content) for media, content in response.get("content", {}).items()),
            prose(response["description"]),
            " ".join(f"<code>{escape(name)}</code>" for name in _telling(response.get("headers", {}))),
        )
        for status, response in responses.items()
    ]
    return _table(("Answer", "body", "", "headers"), rows)


def _media(media: str, content: Json) -> str:
    if media == "application/problem+json":
        return '<a href="#schema-ProblemBody">problem</a>'
    return type_of(content["schema"]) if media == "application/json" else f"<code>{escape(media)}</code>"


def _telling(headers: Json) -> list[str]:
    """The headers that are worth a reader's time: not those that every answer carries."""
    return [name for name in headers if name != "X-Request-Id" and not name.startswith("RateLimit")]


def _schema(name: str, schema: Json) -> str:
    rows = [
        (
            f"<code>{escape(member.name)}</code>{' *' if member.required else ''}",
            type_of(member.schema),
            prose(member.description),
        )
        for member in members(schema)
    ]
    described = f"<p>{prose(schema['description'])}</p>" if "description" in schema else ""
    anchor = f"schema-{escape(name)}"
    heading = f'<h3><a class="anchor" href="#{anchor}">{escape(name)}</a></h3>'
    shown = _table(("Member", "type", ""), rows) if rows else f"<p>{type_of(schema)}</p>"
    return f'<section id="{anchor}">{heading}{described}{shown}</section>'


def _table(head: Iterable[str], rows: Sequence[tuple[str, ...]]) -> str:
    """Cells are HTML already. Nothing for no rows."""
    if not rows:
        return ""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"
