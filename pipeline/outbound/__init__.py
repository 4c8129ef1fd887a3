"""The one place where HTTP clients are made: transport, places per host, address guard, deadlines."""

from pipeline.outbound.clients import Outbound
from pipeline.outbound.exchange import Exchange
from pipeline.outbound.guard import BadUrl, BlockedAddress, check_url, is_allowed
from pipeline.outbound.transport import Transport

__all__ = ["BadUrl", "BlockedAddress", "Exchange", "Outbound", "Transport", "check_url", "is_allowed"]
