"""`multipart/form-data` as far as a provider's clients send it: small, strict, and for bodies that are already here.

Starlette would need the package python-multipart for it; the mock's bodies are bounded and read whole, so that a split
at the boundary is all there is to do (RFC 7578).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser

from starlette.requests import Request

from providers.mock.body import read_raw
from providers.mock.order import Refusal

MAX_PARTS = 200


@dataclass(frozen=True, slots=True)
class Form:
    """The texts by name, in their order, and the files by name as (MIME type, bytes); of files the last one counts."""

    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


async def read_form(request: Request) -> Form:
    """The body as a form. Raises Refusal 400 or 413."""
    return parse(request.headers.get("content-type", ""), await read_raw(request))


def parse(content_type: str, body: bytes) -> Form:
    """A form from its content type and its bytes. Raises Refusal 400 for anything else."""
    head = Message()
    head["content-type"] = content_type
    boundary = head.get_param("boundary")
    if head.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary.isascii():
        raise _invalid("a multipart/form-data body with a boundary is expected")
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if first or not parts or not parts[-1].startswith(b"--") or len(parts) > MAX_PARTS + 1:
        raise _invalid(f"the form is not complete, or has more than {MAX_PARTS} parts")
    texts: dict[str, list[str]] = {}
    files: dict[str, tuple[str, bytes]] = {}
    for part in parts[:-1]:
        name, file_type, content = _part(part)
        if file_type is None:
            texts.setdefault(name, []).append(_text(content))
        else:
            files[name] = file_type, content
    return Form(texts, files)


def _part(part: bytes) -> tuple[str, str | None, bytes]:
    """Name, MIME type (of files only) and content of what stands between two boundaries."""
    lines, separator, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    head = BytesHeaderParser().parsebytes(lines)
    name = head.get_param("name", header="content-disposition")
    if not separator or not isinstance(name, str) or not name:
        raise _invalid("a part of the form has no name")
    return name, None if head.get_filename() is None else head.get_content_type(), content


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _invalid("a member of the form is not UTF-8") from None


def _invalid(message: str) -> Refusal:
    return Refusal(400, "invalid_request", message)
