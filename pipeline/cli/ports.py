"""Ports: a free one, and what to say when one cannot be had."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.cli.base import CommandError


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[None]:
    """Turn an OSError of listening into a sentence that names the setting to change."""
    try:
        yield
    except socket.gaierror as error:
        raise CommandError(f"{host!r} is not a host of this machine: {error.strerror}") from None
    except OSError as error:
        raise CommandError(_reason(error, host, port, setting)) from None


def _reason(error: OSError, host: str, port: int, setting: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken by another program: stop it, or choose another port ({setting})"
        case errno.EACCES:
            return f"port {port} may not be used by this user: choose one above 1023 ({setting})"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine ({setting})"
    return f"cannot listen on {host}:{port} ({setting}): {error.strerror or error}"
