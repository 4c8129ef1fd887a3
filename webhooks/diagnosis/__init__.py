"""Why a signature does not verify: which of key, id, timestamp and body is wrong, and what mends it. Pure.

::

    dump        a request as somebody saved it, read into headers and body
    keys        what a secret may have been taken for
    bodies      what a body may have been turned into
    search      the combination under which the signature is right
    findings    what that says about each part, in words
"""

from webhooks.diagnosis.dump import Dump, UnreadableDump, read_dump
from webhooks.diagnosis.findings import Diagnosis, Finding, diagnose

__all__ = ["Diagnosis", "Dump", "Finding", "UnreadableDump", "diagnose", "read_dump"]
