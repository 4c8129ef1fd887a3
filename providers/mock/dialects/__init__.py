"""The dialects that the mock speaks, by name: one line each."""

from collections.abc import Mapping
from types import MappingProxyType

from providers.mock.dialect import Dialect
from providers.mock.dialects import native, openrouter

_ALL = (
    native.DIALECT,
    openrouter.DIALECT,
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({each.name: each for each in _ALL})
