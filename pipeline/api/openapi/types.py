"""JSON Schema in words, as HTML: `integer 1..10`, `list of Generation`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object."""

    name: str
    schema: Schema
    required: bool
    description: str


def members(schema: Schema) -> Iterator[Member]:
    """The members that an object schema declares."""
    required = set(schema.get("required", ()))
    for name, member in schema.get("properties", {}).items():
        yield Member(name, member, name in required, _described(member))


def _described(member: Schema) -> str:
    """Its description, or that of its only kind which is not null."""
    if "description" in member:
        return str(member["description"])
    kinds = [kind for kind in member.get("anyOf", ()) if kind.get("type") != "null"]
    return str(kinds[0].get("description", "")) if len(kinds) == 1 else ""


def type_of(schema: Schema) -> str:
    """What a value may be, with its bounds, and its default if it has one."""
    default = f", else {_value(schema['default'])}" if schema.get("default") is not None else ""
    return _type(schema) + default


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "enum" in schema:
        return " | ".join(_value(value) for value in schema["enum"])
    if "const" in schema:
        return _value(schema["const"])
    for joined in ("anyOf", "oneOf"):
        if joined in schema and "properties" not in schema:
            return " | ".join(_type(kind) for kind in schema[joined])
    return _plain(schema)


def _plain(schema: Schema) -> str:
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list{_bounds(schema, 'minItems', 'maxItems')} of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"object{_bounds(schema, 'minProperties', 'maxProperties')} of {_type(values)}"
    return escape(str(kind)) + _details(schema)


def _details(schema: Schema) -> str:
    made = _bounds(schema, "minimum", "maximum")
    if length := _bounds(schema, "minLength", "maxLength"):
        made += f", {length.strip()} characters"
    if "format" in schema:
        made += f", {escape(schema['format'])}"
    return made


def _bounds(schema: Schema, low: str, high: str) -> str:
    if low not in schema and high not in schema:
        return ""
    return f" {schema.get(low, '')}..{schema.get(high, '')}"


def _value(value: object) -> str:
    return f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"
