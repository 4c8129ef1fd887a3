"""What an operation of the API is made of: plain values, from which `build` makes the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.credentials import Scope

Schema = Mapping[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something in the path, the query or the headers. `schema` is JSON Schema; path parameters are always required."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Schema
    description: str
    required: bool = False
    comma_list: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """A header of an answer."""

    schema: Schema
    description: str
    always: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """Where an answer leads: parameters of another operation, as runtime expressions (`$response.body#/id`)."""

    operation_id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that says yes. Without `content` it has no body; values are models or JSON Schemas by media type."""

    description: str
    content: Mapping[str, type[BaseModel] | Schema] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)


def json_of(model: type[BaseModel] | Schema) -> Mapping[str, type[BaseModel] | Schema]:
    """The content of a reply in JSON."""
    return {"application/json": model}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    Args:
        scope: what a key must hold; None for what anybody may ask.
        problems: codes of `pipeline.api.problems` that it answers with, besides those that every operation may.
        token: whether a read token in the query opens it as well.
        example: a body for the document.
    """

    id: str
    method: Method
    path: str
    tag: str
    summary: str
    replies: Mapping[int, Reply]
    scope: Scope | None = None
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | Schema | None = None
    body_required: bool = True
    body_media: str = "application/json"
    example: Any = None
    problems: tuple[str, ...] = ()
    token: bool = False
