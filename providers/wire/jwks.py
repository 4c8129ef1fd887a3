"""A provider's published keys (JWKS), fetched when needed and kept for a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from providers.base import ErrorCode, ProviderError
from providers.wire.calls import call_json
from providers.wire.exchange import Call
from providers.wire.kept import Kept

Keys = Sequence[Mapping[str, Any]]


class KeySet(Kept[Keys]):
    """The keys at a URL, of whatever kinds. `client` is the one for free calls."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        super().__init__(self._ask)
        self._client, self._url = client, url

    async def _ask(self) -> Keys:
        try:
            answer = (await call_json(self._client, Call("GET", self._url), attempts=2, deadline=5.0)).document()
        except ProviderError as error:
            raise ProviderError(ErrorCode.TRANSIENT, f"the provider's keys cannot be had: {error.message}") from error
        keys = answer.get("keys")
        if not isinstance(keys, list):
            raise ProviderError(ErrorCode.TRANSIENT, "the provider's keys cannot be read")
        return [key for key in keys if isinstance(key, dict)]
