"""How every adapter speaks HTTP: one submit that never repeats, free calls that may, downloads that leak no key.

Nothing here makes a client: adapters are handed `Clients`. What went wrong comes back as `providers.base` values.
"""

from providers.wire.calls import call_json
from providers.wire.download import download
from providers.wire.errors import error_of, retry_after
from providers.wire.exchange import MAX_ANSWER, Answer, Call, Clients
from providers.wire.submit import submit_once

__all__ = [
    "MAX_ANSWER",
    "Answer",
    "Call",
    "Clients",
    "call_json",
    "download",
    "error_of",
    "retry_after",
    "submit_once",
]
