"""The outbox: the only writer of `webhook_*`. An event is recorded in the transaction of the change that it tells of;
each place that wants it gets a delivery, which is a job of the same queue.

::

    endpoints    where events go
    managing     endpoints as their owners make, change and look at them
    secrets      what they sign with; signatory opens it, testing tries it
    addressing   a delivery to one place, also once more
    recording    an event and its deliveries, in the caller's transaction
    delivering   one attempt per turn of a delivery
    standing     what an attempt says of its endpoint: pauses, probes, the end
    recovering   all that failed in some time is sent again
    order        a later event of a generation waits for the earlier ones
    operator     what the operator is told of all this
    reads        deliveries as people look at them
    ended        what has ended
"""

from pipeline.outbox.addressing import BodyForgotten, redeliver, require_body, revive
from pipeline.outbox.delivering import UNSET_SECONDS, Outbox
from pipeline.outbox.ended import forget, forget_bodies, prune
from pipeline.outbox.endpoints import DEFAULT_ENDPOINT, FROM_SETTINGS, PER_REQUEST, UNSET, set_default_endpoint
from pipeline.outbox.managing import forget_deleted
from pipeline.outbox.operator import OPERATOR_ENDPOINT, OPERATOR_TENANT, set_operator_endpoint
from pipeline.outbox.reads import DeliveryFilter, attempts, deliveries, delivery, delivery_page
from pipeline.outbox.recovering import Recoveries
from pipeline.outbox.secrets import PURPOSE as SEALING
from pipeline.outbox.secrets import forget_expired, seal_anew
from pipeline.outbox.signatory import Signatory
from pipeline.outbox.standing import Breaker
from pipeline.outbox.testing import Tester

__all__ = [
    "DEFAULT_ENDPOINT",
    "FROM_SETTINGS",
    "OPERATOR_ENDPOINT",
    "OPERATOR_TENANT",
    "PER_REQUEST",
    "SEALING",
    "UNSET",
    "UNSET_SECONDS",
    "BodyForgotten",
    "Breaker",
    "DeliveryFilter",
    "Outbox",
    "Recoveries",
    "Signatory",
    "Tester",
    "attempts",
    "deliveries",
    "delivery",
    "delivery_page",
    "forget",
    "forget_bodies",
    "forget_deleted",
    "forget_expired",
    "prune",
    "redeliver",
    "require_body",
    "revive",
    "seal_anew",
    "set_default_endpoint",
    "set_operator_endpoint",
]
