"""The outbox: the only writer of `webhook_*`. An event is recorded in the transaction of the change that it tells of;
each place that wants it gets a delivery, which is a job of the same queue.

::

    endpoints    where events go
    addressing   a delivery to one place, also once more
    recording    an event and its deliveries, in the caller's transaction
    delivering   one attempt per turn of a delivery
    standing     what an attempt says of its endpoint: pauses, probes, the end
    order        a later event of a generation waits for the earlier ones
    operator     what the operator is told of all this
    reads        deliveries as people look at them
    ended        what has ended
"""

from pipeline.outbox.addressing import BodyForgotten, redeliver, require_body, revive
from pipeline.outbox.delivering import UNSET_SECONDS, Outbox
from pipeline.outbox.ended import forget, forget_bodies, prune
from pipeline.outbox.endpoints import DEFAULT_ENDPOINT, FROM_SETTINGS, PER_REQUEST, UNSET, set_default_endpoint
from pipeline.outbox.operator import OPERATOR_ENDPOINT, OPERATOR_TENANT, set_operator_endpoint
from pipeline.outbox.reads import DeliveryFilter, attempts, deliveries, delivery, delivery_page
from pipeline.outbox.standing import Breaker

__all__ = [
    "DEFAULT_ENDPOINT",
    "FROM_SETTINGS",
    "OPERATOR_ENDPOINT",
    "OPERATOR_TENANT",
    "PER_REQUEST",
    "UNSET",
    "UNSET_SECONDS",
    "BodyForgotten",
    "Breaker",
    "DeliveryFilter",
    "Outbox",
    "attempts",
    "deliveries",
    "delivery",
    "delivery_page",
    "forget",
    "forget_bodies",
    "prune",
    "redeliver",
    "require_body",
    "revive",
    "set_default_endpoint",
    "set_operator_endpoint",
]
