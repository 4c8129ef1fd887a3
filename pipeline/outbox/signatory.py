"""What goes along with a request to an endpoint: the secrets that sign it, and headers of the endpoint's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.db import Row
from pipeline.keys import Box, CannotOpen
from pipeline.outbox.endpoints import OWN
from pipeline.outbox.secrets import opened

HIDDEN = "***"
"""What is shown of the value of a header."""


@dataclass(frozen=True, slots=True)
class Signatory:
    """Opens what is kept sealed of endpoints.

    Args:
        box: seals and opens.
        settings: the live secrets of WEBHOOK_SECRET, all of which sign where an endpoint has none of its own.
    """

    box: Box
    settings: Sequence[str]

    def secrets(self, endpoint: Row | None, rows: Sequence[Row]) -> Sequence[str]:
        """The secrets that sign: those of the endpoint, live in `rows`, or WEBHOOK_SECRET. Raises CannotOpen."""
        own = endpoint is not None and endpoint["secret_ref"] == OWN
        return opened(self.box, rows) if own else self.settings

    def headers(self, endpoint: Row | None) -> dict[str, str]:
        """The headers that go along; their values may be credentials. Raises CannotOpen."""
        if endpoint is None or endpoint["headers"] is None:
            return {}
        headers: dict[str, str] = json.loads(self.box.open(endpoint["headers"], endpoint["id"]))
        return headers

    def shown_headers(self, endpoint: Row) -> dict[str, str]:
        """Their names, each with HIDDEN; none where they cannot be opened."""
        try:
            return dict.fromkeys(self.headers(endpoint), HIDDEN)
        except CannotOpen:
            return {}

    def sealed(self, endpoint_id: str, headers: Mapping[str, str]) -> str | None:
        """Headers as they are kept."""
        return self.box.seal(json.dumps(dict(headers)), endpoint_id) if headers else None
