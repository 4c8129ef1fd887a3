"""Every answer that a test gets from a house is held against the table of operations and the models of its bodies."""

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from pipeline.api.openapi import OPERATIONS
from pipeline.api.openapi.build import PROBLEM_MEDIA, codes_of
from pipeline.api.openapi.common import PROBLEM_HEADERS
from pipeline.api.openapi.parts import Header, Operation
from pipeline.schemas.responses import ProblemBody

ANYWHERE = {"not_found", "method_not_allowed", "invalid_parameter", "host_not_allowed", "origin_not_allowed"}
"""What is answered where there is no operation."""

_PATTERNS = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", operation.path)), operation) for operation in OPERATIONS]


async def conforms(response: httpx.Response) -> None:
    """A hook of an httpx client. Raises AssertionError when an answer is not what the document promises."""
    request = response.request
    media = response.headers.get("content-type", "").partition(";")[0]
    body = json.loads(await response.aread()) if media.endswith("json") and request.method != "HEAD" else None
    try:
        check(request.method, request.url.path, response.status_code, media, response.headers, body)
    except (AssertionError, ValueError) as error:
        said = f"{request.method} {request.url} -> {response.status_code} {media}"
        raise AssertionError(f"{said}: {error}\n{json.dumps(body)[:2000]}") from None


def check(method: str, path: str, status: int, media: str, headers: Mapping[str, str], body: Any) -> None:
    """Hold one answer against its operation. Raises AssertionError, or ValueError for a body that does not fit."""
    if method == "OPTIONS" and media != PROBLEM_MEDIA:
        return  # a preflight, which the browser reads and nobody else
    assert "x-request-id" in headers, "no X-Request-Id"
    operation = operation_of("GET" if method == "HEAD" else method, path)
    if media == PROBLEM_MEDIA:
        _check_problem(operation, status, headers, body)
        return
    assert operation is not None, "answers where the document has no operation"
    reply = operation.replies.get(status)
    assert reply is not None, f"{operation.id} has no such status"
    _check_headers(reply.headers, headers)
    if not reply.content:
        return
    assert media in reply.content, f"{operation.id} answers as {list(reply.content)}"
    content = reply.content[media]
    if body is None:
        return
    if isinstance(content, type) and issubclass(content, BaseModel):
        content.model_validate_json(json.dumps(body))
    else:
        Draft202012Validator(dict(content)).validate(body)


def operation_of(method: str, path: str) -> Operation | None:
    """The operation that answers, or None."""
    found = [o for pattern, o in _PATTERNS if o.method == method and pattern.fullmatch(path)]
    return min(found, key=lambda operation: operation.path.count("{"), default=None)


def _check_problem(operation: Operation | None, status: int, headers: Mapping[str, str], body: Any) -> None:
    _check_headers(PROBLEM_HEADERS.get(status, {}), headers)
    if body is None:
        return
    problem = ProblemBody.model_validate_json(json.dumps(body))
    assert problem.status == status
    codes = codes_of(operation).get(status, []) if operation else ANYWHERE
    assert problem.code in codes, f"the document knows {sorted(codes)} here"


def _check_headers(declared: Mapping[str, Header], headers: Mapping[str, str]) -> None:
    missing = [name for name, header in declared.items() if header.always and name not in headers]
    assert not missing, f"without {missing}"
