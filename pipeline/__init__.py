"""Dailies: a webhook-driven video generation pipeline.

A generation is a row that moves through its stages one turn at a time. Read in this order: `lifecycle` (what can
happen), `queue` (who does it), `workflow` (what is done), `outbox` (who is told), `worker` (the loop), `app` (how it
is wired).
"""

__version__ = "0.1.0"
