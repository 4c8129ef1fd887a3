"""The HTTP API: routes by resource, who may call, and problem responses."""

from pipeline.api.broadcast import Broadcaster
from pipeline.api.keyring import KeyRing
from pipeline.api.routes import create_api
from pipeline.api.service import Service

__all__ = ["Broadcaster", "KeyRing", "Service", "create_api"]
