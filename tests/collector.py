"""A collector of traces: it takes OpenTelemetry spans in over OTLP/HTTP and keeps them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(ThreadingHTTPServer):
    """Takes spans in as an OTLP/HTTP collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Intake)
        self.spans: dict[str, list[tuple[str, Span]]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name: str) -> list[tuple[str, Span]]:
        """Each with the service that sent it."""
        return self.spans.get(name, [])


class Intake(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in sent.resource_spans:
            service = {pair.key: pair.value.string_value for pair in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.server.spans.setdefault(span.name, []).append((service, span))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: it would stand among the tests' own lines."""


def context(traceparent: str | int) -> tuple[bytes, bytes]:
    """The ids of the trace and of the span."""
    _, trace_id, span_id, _ = str(traceparent).split("-")
    return bytes.fromhex(trace_id), bytes.fromhex(span_id)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector at work."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
