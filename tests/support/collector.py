"""Stands in for an OpenTelemetry collector: takes spans over OTLP/HTTP and keeps them.

    with Collector() as collector:
        HubProcess(HUB_TRACE_SAMPLE="1", **collector.environment)

Decodes what comes by OpenTelemetry's own schema, as a collector does.
"""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Attributes = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Taken:
    """One span, as it came."""

    name: str
    trace: str
    """32 hexadecimal digits."""
    id: str
    parent: str
    """16 hexadecimal digits; empty for the first of a trace."""
    kind: int
    start_ns: int
    end_ns: int
    failed: bool
    attributes: Attributes
    process: Attributes
    """Of the node that it comes from."""


class Collector:
    """Listens from `with` to its end, on a port of its own."""

    def __init__(self) -> None:
        taken: list[Taken] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken.extend(_decode(body) if self.path == "/v1/traces" else ())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.spans = taken
        """In the order they came."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a node that sends its spans here, without waiting for more of them."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def named(self, name: str) -> list[Taken]:
        return [span for span in self.spans if span.name == name]


def _decode(body: bytes) -> list[Taken]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _taken(span, _attributes(list(resource.resource.attributes)))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _taken(span: Span, process: Attributes) -> Taken:
    return Taken(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=int(span.kind),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == 2,
        attributes=_attributes(list(span.attributes)),
        process=process,
    )


def _attributes(pairs: list[KeyValue]) -> Attributes:
    found: Attributes = {}
    for pair in pairs:
        value = pair.value
        which = value.WhichOneof("value")
        found[pair.key] = getattr(value, which) if which else ""
    return found
