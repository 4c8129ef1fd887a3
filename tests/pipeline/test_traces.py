"""A trace goes on from the caller's request to the webhook, with spans of ours or without."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pipeline import otel
from pipeline.otel import Spans
from pipeline.telemetry import emit
from pipeline.traces import Context, Tracing, parse
from tests.house import House, open_house

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{CALLER}-01"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        HEADER.upper(),
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-01-more",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{CALLER}-01",
        f" {HEADER}",
        f"{HEADER}\n",
        f"00-{TRACE}-{CALLER}-1g",
    ],
)
def test_what_is_no_context_is_as_if_nothing_came(header):
    assert parse(header) is None
    assert Tracing().begin(header) is None


def test_a_context_is_read_and_written():
    assert parse(HEADER) == Context(TRACE, CALLER, sampled=True)
    assert parse(HEADER).text == HEADER
    assert parse(f"cc-{TRACE}-{CALLER}-03-new") == Context(TRACE, CALLER, sampled=True)
    assert parse(f"00-{TRACE}-{CALLER}-02") == Context(TRACE, CALLER, sampled=False)


def test_without_spans_of_ours_a_context_is_handed_on_as_it_came():
    tracing = Tracing()
    assert tracing.begin(HEADER) == tracing.child(HEADER) == HEADER
    assert tracing.parent(HEADER) is None
    assert tracing.child(None) is None


def test_with_spans_each_is_within_the_one_before():
    counter = iter(range(1, 100))
    tracing = Tracing(lambda n: next(counter).to_bytes(n, "big"))
    assert tracing.begin(HEADER) == f"00-{TRACE}-{1:016x}-01"
    assert tracing.begin(None) == f"00-{2:032x}-{3:016x}-01"
    assert tracing.child(HEADER) == f"00-{TRACE}-{4:016x}-01"
    assert tracing.begin(f"00-{TRACE}-{CALLER}-00") == f"00-{TRACE}-{5:016x}-00"
    assert tracing.parent(HEADER) == HEADER


@pytest.fixture
def exported():
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, now=lambda: 1_000.0)

    def finish():
        spans.close()
        return exporter.get_finished_spans()

    yield finish
    spans.close()


def test_a_span_has_the_time_and_the_place_that_its_event_says(exported):
    own = f"00-{TRACE}-{7:016x}-01"
    emit("request.done", method="POST", route="/api/generations", status=202, ms=250.0, trace=own, parent=HEADER)
    emit("turn.done", level=10, step="poll", run_ms=30, record_ms=20, error="no answer", parent=own)
    emit("turn.done", step="poll", run_ms=30, record_ms=20)
    emit("request.done", method="POST", status=202, ms=1.0, parent=f"00-{TRACE}-{CALLER}-00")
    post, poll = exported()
    assert (post.name, post.kind, post.status.status_code) == (
        "POST /api/generations",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert (post.context.trace_id, post.context.span_id) == (int(TRACE, 16), 7)
    assert post.parent.span_id == int(CALLER, 16)
    assert post.end_time - post.start_time == 250_000_000
    assert post.end_time == 1_000 * 10**9
    assert post.attributes["dailies.status"] == 202
    assert (poll.name, poll.context.trace_id, poll.parent.span_id) == ("poll", int(TRACE, 16), 7)
    assert poll.end_time - poll.start_time == 50_000_000
    assert poll.status.status_code is StatusCode.ERROR
    assert poll.context.span_id not in {0, 7}


async def to_the_webhook(house: House, headers: dict[str, str]) -> str | None:
    response = await house.api.post("/api/generations", json={"prompt": "a traced fox"}, headers=headers)
    assert response.status_code == 202
    (webhook,) = await house.webhooks(1)
    return {name.lower(): value for name, value in webhook.headers.items()}.get("traceparent")


@pytest.mark.anyio
async def test_the_callers_context_comes_with_the_webhook(tmp_path):
    async with open_house(tmp_path) as house:
        assert await to_the_webhook(house, {"traceparent": HEADER}) == HEADER


@pytest.mark.anyio
async def test_no_context_makes_none(tmp_path):
    async with open_house(tmp_path) as house:
        assert await to_the_webhook(house, {"traceparent": "nonsense"}) is None


@pytest.mark.anyio
async def test_one_trace_from_the_request_to_the_webhook(tmp_path, monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(otel, "to_collector", lambda endpoint: Spans(exporter))
    async with open_house(tmp_path, otlp_endpoint="http://127.0.0.1:4318") as house:
        before = time.time_ns()
        arrived = parse(await to_the_webhook(house, {"traceparent": HEADER}))
    spans = exporter.get_finished_spans()
    assert {span.context.trace_id for span in spans} == {int(TRACE, 16)}
    by_name = {span.name: span for span in spans}
    post, submit, store, deliver = (by_name[name] for name in ("POST /api/generations", "submit", "store", "deliver"))
    assert post.parent.span_id == int(CALLER, 16)
    assert {span.parent.span_id for span in spans if span is not post} == {post.context.span_id}
    assert arrived == Context(TRACE, f"{deliver.context.span_id:016x}", sampled=True)
    assert before <= submit.start_time <= store.start_time <= store.end_time <= deliver.end_time


@pytest.mark.anyio
async def test_a_trace_begins_here_where_the_caller_names_none(tmp_path, monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(otel, "to_collector", lambda endpoint: Spans(exporter))
    async with open_house(tmp_path, otlp_endpoint="http://127.0.0.1:4318") as house:
        arrived = parse(await to_the_webhook(house, {}))
    (post,) = [span for span in exporter.get_finished_spans() if span.name.startswith("POST")]
    assert post.parent is None
    assert arrived is not None
    assert arrived.trace == f"{post.context.trace_id:032x}"


def test_spans_reach_a_collector():
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        spans = otel.to_collector(f"http://127.0.0.1:{server.server_port}/")
        emit("turn.done", step="poll", run_ms=1, parent=HEADER)
        spans.close()
        server.shutdown()
        thread.join()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert bytes.fromhex(TRACE) in (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from pipeline.app import make_spans
from pipeline.config import Settings, SettingsError
make_spans(Settings(_env_file=None))()
try:
    make_spans(Settings(_env_file=None, otlp_endpoint="http://localhost:4318"))
except SettingsError as error:
    print(error)
"""


def test_without_the_extra_nothing_is_missed_until_it_is_asked_for():
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OTLP_ENDPOINT needs the extra `otel`: pip install opentelemetry-sdk" in done.stdout
