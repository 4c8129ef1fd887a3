"""A provider's options (addresses, keys, modes) as texts, from wherever the application keeps its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping

_KEY = re.compile(r"[!-~]+")


class NotConfigured(ValueError):
    """A provider cannot be used, because options that it needs are not given; `missing` names them."""

    def __init__(self, provider: str, *missing: str) -> None:
        super().__init__(f"{provider} needs {' and '.join(missing)}")
        self.missing = missing


def required(provider: str, options: Mapping[str, str], *names: str) -> list[str]:
    """The values of options that must be given, without space around them.

    Raises NotConfigured naming all that are not, and ValueError for a key that no header could carry.
    """
    given = {name: options.get(name, "").strip() for name in names}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise NotConfigured(provider, *missing)
    for name, value in given.items():
        if name.endswith("key") and not _KEY.fullmatch(value):
            raise ValueError(
                f"{provider}'s {name} holds characters that no key has: letters, digits and signs of ASCII"
            )
    return list(given.values())


def only(provider: str, options: Mapping[str, str], *names: str) -> None:
    """Raises ValueError naming options that the provider does not have."""
    unknown = set(options) - set(names)
    if unknown:
        raise ValueError(f"{provider} does not know {', '.join(sorted(unknown))}")


def address(provider: str, options: Mapping[str, str], name: str, default: str) -> str:
    """The option's URL, or the default, without a slash at its end. Raises ValueError for what is no http(s) URL."""
    url = (options.get(name) or default).rstrip("/")
    if not url.startswith(("http://", "https://")) or not url.isprintable() or " " in url:
        raise ValueError(f"{provider}'s {name} must be an http or https address")
    return url
