"""Spans for OpenTelemetry, made of named events: the only file that imports its SDK. It is imported only where
OTLP_ENDPOINT is set, and needs the extra `otel`.

A span is made when its event is told, with the times and the place in the trace that the event carries.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pipeline import __version__
from pipeline.telemetry import subscribe
from pipeline.traces import SPANS, Context, parse

NANO = 1_000_000_000
HIDDEN = frozenset({"trace", "parent"})
KINDS = {"request.done": SpanKind.SERVER}
SERVER_ERROR = 500


class _Ids(IdGenerator):
    """Ids that are known before the span is made, since the next one was told of them already."""

    def __init__(self) -> None:
        self.next = threading.local()

    def generate_trace_id(self) -> int:
        """The trace of the span that this thread is about to make."""
        wanted: int | None = getattr(self.next, "trace", None)
        return wanted or random.getrandbits(128)

    def generate_span_id(self) -> int:
        """The same for its own id."""
        wanted: int | None = getattr(self.next, "span", None)
        return wanted or random.getrandbits(64)


class Spans:
    """Makes spans of events until it is closed.

    Args:
        exporter: where spans go, in batches and off the event loop.
        now: Unix seconds.
    """

    def __init__(self, exporter: SpanExporter, now: Callable[[], float] = time.time) -> None:
        self._ids = _Ids()
        self._now = now
        resource = Resource.create({"service.name": "dailies", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("dailies", __version__)
        self._unsubscribe = subscribe(self.hear)

    def hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """Make a span, if the event is one and its trace is to be recorded."""
        parent, own = parse(fields.get("parent")), parse(fields.get("trace"))
        place = own or parent
        if event not in SPANS or place is None or not place.sampled:
            return
        ended = int(self._now() * NANO)
        self._ids.next.trace, self._ids.next.span = int(place.trace, 16), int(own.span, 16) if own else None
        span = self._tracer.start_span(
            SPANS[event].format_map(_Words(fields)),
            context=_around(parent),
            kind=KINDS.get(event, SpanKind.INTERNAL),
            attributes={f"dailies.{name}": _plain(value) for name, value in fields.items() if name not in HIDDEN},
            start_time=ended - int(_seconds(fields) * NANO),
        )
        if _went_wrong(fields):
            span.set_status(Status(StatusCode.ERROR, str(fields.get("error") or fields.get("problem") or "")))
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what is left, for a few seconds at most, and end."""
        self._unsubscribe()
        self._provider.force_flush(2_000)
        self._provider.shutdown()


def to_collector(endpoint: str) -> Spans:
    """Spans to a collector that takes OTLP over HTTP at this address. Headers come from OTEL_EXPORTER_OTLP_HEADERS."""
    return Spans(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))


class _Words(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "other"


def _around(parent: Context | None) -> OtelContext:
    if parent is None:
        return OtelContext()
    place = SpanContext(int(parent.trace, 16), int(parent.span, 16), is_remote=True, trace_flags=TraceFlags(1))
    return trace.set_span_in_context(NonRecordingSpan(place), OtelContext())


def _seconds(fields: Mapping[str, Any]) -> float:
    return float(fields.get("ms") or fields.get("run_ms", 0) + fields.get("record_ms", 0)) / 1000


def _plain(value: object) -> str | bool | int | float:
    return value if type(value) in {str, bool, int, float} else str(value)  # type: ignore[return-value]  # just looked


def _went_wrong(fields: Mapping[str, Any]) -> bool:
    return "error" in fields or int(fields.get("status", 0)) >= SERVER_ERROR
