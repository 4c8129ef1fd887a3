"""Dailies: a webhook-driven video generation pipeline.

A generation is a row that moves through its stages one turn at a time. Read in this order: `lifecycle` (what can
happen), `queue` (who does it), `workflow` (what is done), `outbox` (who is told), `worker` (the loop), `app` (how it
is wired).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dailies")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
