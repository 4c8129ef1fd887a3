"""The outbox: the only writer of `webhook_*`. An event is recorded in the transaction of the change that it tells of;
each place that wants it gets a delivery, which is a job of the same queue.

::

    endpoints    where events go
    recording    an event and its deliveries, in the caller's transaction
    delivering   one attempt per turn of a delivery
    reads        deliveries as people look at them
    ended        what has ended
"""

from pipeline.outbox.delivering import UNSET_SECONDS, Outbox
from pipeline.outbox.ended import forget, prune
from pipeline.outbox.endpoints import DEFAULT_ENDPOINT, FROM_SETTINGS, PER_REQUEST, UNSET, set_default_endpoint
from pipeline.outbox.reads import attempts, deliveries

__all__ = [
    "DEFAULT_ENDPOINT",
    "FROM_SETTINGS",
    "PER_REQUEST",
    "UNSET",
    "UNSET_SECONDS",
    "Outbox",
    "attempts",
    "deliveries",
    "forget",
    "prune",
    "set_default_endpoint",
]
