"""A provider's options (addresses, keys, modes) as texts, from wherever the application keeps its settings."""

from __future__ import annotations

from collections.abc import Mapping


class NotConfigured(ValueError):
    """A provider cannot be used, because options that it needs are not given; `missing` names them."""

    def __init__(self, provider: str, *missing: str) -> None:
        super().__init__(f"{provider} needs {' and '.join(missing)}")
        self.missing = missing


def required(provider: str, options: Mapping[str, str], *names: str) -> list[str]:
    """The values of options that must be given. Raises NotConfigured naming all that are not."""
    missing = [name for name in names if not options.get(name)]
    if missing:
        raise NotConfigured(provider, *missing)
    return [options[name] for name in names]


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
