"""How every adapter speaks HTTP: one submit that never repeats, free calls that may, downloads that leak no key.

Nothing here makes a client: adapters are handed `Clients`. What went wrong comes back as `providers.base` values.
"""

from providers.wire.calls import call_json
from providers.wire.download import download
from providers.wire.errors import error_of, looks_refused, retry_after, with_code
from providers.wire.exchange import MAX_ANSWER, Answer, Call, Clients
from providers.wire.inline import open_inline
from providers.wire.jwks import KeySet
from providers.wire.merge import merged
from providers.wire.sieve import inline_index
from providers.wire.submit import submit_once

__all__ = [
    "MAX_ANSWER",
    "Answer",
    "Call",
    "Clients",
    "KeySet",
    "call_json",
    "download",
    "error_of",
    "inline_index",
    "looks_refused",
    "merged",
    "open_inline",
    "retry_after",
    "submit_once",
    "with_code",
]
