"""The bad receiver: a server that does to webhooks what real receivers do, on demand. For tests, and for developers.

::

    answer          an answer as a value, and the acts on a socket that it takes. Pure
    behaviours      the named ways to be bad: each changes a part of an answer. Pure
    spec            `slow-body,status=503:0.3` as a value. Pure
    request         what came: read within bounds, and whether its signature is right
    certificates    a certificate for every way in which one can be wrong
    server          the sockets
"""

from webhooks.sink.behaviours import BEHAVIOURS
from webhooks.sink.request import Seen
from webhooks.sink.server import Sink
from webhooks.sink.spec import BadBehaviour, Spec, parse_spec

__all__ = ["BEHAVIOURS", "BadBehaviour", "Seen", "Sink", "Spec", "parse_spec"]
