"""How columns are declared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Text, text
from sqlmodel import Field

Args = tuple[object, ...]


def required_text(*, nullable: bool = False, primary_key: bool = False, default: str | None = None) -> str:
    """Text that is always there."""
    return Field(sa_type=Text, nullable=nullable, primary_key=primary_key, default=default)  # type: ignore[no-any-return]


def optional_text() -> str | None:
    """Text, or NULL."""
    return Field(default=None, sa_type=Text, nullable=True)  # type: ignore[no-any-return]


def big(*, default: int = 0) -> int:
    """A whole number of 64 bits: milliseconds, micro-USD, bytes."""
    return Field(default=default, sa_type=BigInteger, nullable=False)  # type: ignore[no-any-return]


def added(default: str, kind: type = BigInteger) -> Any:
    """A column that a later migration added: its default is in the database, for the code that came before it."""
    return Field(
        default=default if kind is Text else int(default),
        sa_type=kind,
        nullable=False,
        sa_column_kwargs={"server_default": text(f"'{default}'")},
    )


def optional_big() -> int | None:
    """The same, or NULL."""
    return Field(default=None, sa_type=BigInteger, nullable=True)  # type: ignore[no-any-return]
