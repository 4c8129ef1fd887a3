"""The one place where HTTP clients are made: transport, places per host, address guard, deadlines."""

from pipeline.outbound.clients import Outbound, guard_of, proxy_of
from pipeline.outbound.exchange import Exchange
from pipeline.outbound.guard import BadUrl, BlockedAddress, Guard, check_url, is_allowed
from pipeline.outbound.transport import Transport
from pipeline.outbound.tunnel import ProxyFailed, ProxyRefused

__all__ = [
    "BadUrl",
    "BlockedAddress",
    "Exchange",
    "Guard",
    "Outbound",
    "ProxyFailed",
    "ProxyRefused",
    "Transport",
    "check_url",
    "guard_of",
    "is_allowed",
    "proxy_of",
]
