"""Spans of sampled publications: one where it is published, one at each node that writes it.

OpenTelemetry is an optional extra (`broadcast-hub[otel]`): import this module only where it is
wanted (`hub.node.core.make_tracing`). A sampled publication carries its W3C `traceparent` from node
to node; the others carry nothing. A thread of the SDK exports spans, from a bounded queue that
drops when it is full. OpenTelemetry's own environment variables set where to and how
(`OTEL_EXPORTER_OTLP_ENDPOINT` and others).

No span holds a payload, a key of a publication, a token or a subject. OpenTelemetry's API raises
nothing (its specification, "Error handling"), so nothing here guards a broadcast from it.
"""

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import Sequence

from msgspec.structs import replace
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hub.core.fanout.batch import Batch
from hub.core.ports import (
    PAGE_BYTES,
    Broker,
    HistoryPage,
    OnOpen,
    OnPublished,
    PublishRequest,
    PublishResult,
    PublishSoon,
    StatePage,
)
from hub.core.publication import Publication
from hub.errors import HubError

# What is still queued at the end gets this long to reach the collector. Guess, not measured.
STOP_SECONDS = 2.0

_SERVICE = "broadcast-hub"
_Attributes = dict[str, str | int | bool]


class Tracing:
    """Makes the spans of a node that traces; owned by the event loop.

    Args:
        share: of the publications nobody else has decided about, above 0 and at most 1. A
            publication whose `traceparent` is sampled is traced, one that says it is not is not.
        processor: takes the spans; left out, they are exported over OTLP/HTTP.
    """

    def __init__(
        self, share: float, *, node: str, version: str, processor: SpanProcessor | None = None
    ) -> None:
        self._share = share
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create(_about(node, version)),
            # The hub ends it when it stops; the SDK's own way waits for half a minute.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(_SERVICE, version)
        self._propagator = TraceContextTextMapPropagator()

    async def stop(self) -> None:
        """Export the queued spans; give up after `STOP_SECONDS`."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            # The caller has given up, and the loop has ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        # No thread of the loop's pool: the end of the process would wait for it.
        threading.Thread(target=shut_down, name="tracing-stop", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), STOP_SECONDS)

    def current(self) -> str | None:
        """Return the `traceparent` of the span that the application in this process is in."""
        return self.traceparent(api.get_current_span())

    # -- publishing --------------------------------------------------------------------------

    def traced(self, broker: Broker) -> "TracedBroker":
        """Return `broker` with a span around each publishing."""
        return TracedBroker(broker, self)

    def begin(self, request: PublishRequest) -> Span | None:
        """Begin the span of a publishing, which the caller ends; return None where it is not
        sampled."""
        parent = self._parent(request.trace)
        if not self._sampled(parent):
            return None
        about: _Attributes = {
            "messaging.system": _SERVICE,
            "messaging.operation.name": "publish",
            "messaging.destination.name": request.channel,
            "messaging.message.body.size": len(request.data),
        }
        return self._tracer.start_span(
            "publish", parent, kind=api.SpanKind.PRODUCER, attributes=about
        )

    def _sampled(self, parent: Context) -> bool:
        """Return the publisher's decision, where there is one; else one by the share.

        Here and not in a sampler of the SDK's, which costs 6 us for each that is not (measured).
        """
        said = api.get_current_span(parent).get_span_context() if parent else None
        if said is not None and said.is_valid:
            return said.trace_flags.sampled
        return random.random() < self._share

    def fail(self, span: Span, error: HubError) -> None:
        """Mark a span: the publication was not made, or its outcome is unknown."""
        span.set_attribute("error.type", error.code)
        # Not its message: that may name an idempotency key.
        span.set_status(api.StatusCode.ERROR, error.code)

    # -- writing -----------------------------------------------------------------------------

    def written(self, batch: Batch, publications: Sequence[Publication], seconds: float) -> None:
        """A span for each traced publication; implements `hub.core.fanout.fanout.OnWritten`."""
        for publication in publications:
            if publication.trace is not None:
                self._deliver(batch, publication, publication.trace, seconds)

    def _deliver(self, batch: Batch, publication: Publication, trace: str, seconds: float) -> None:
        now_ns = time.time_ns()
        about: _Attributes = {
            "messaging.system": _SERVICE,
            "messaging.operation.name": "deliver",
            "messaging.destination.name": publication.channel,
            "messaging.message.body.size": len(publication.data),
            "hub.epoch": batch.epoch,
            "hub.offset": publication.offset,
            "hub.sessions": batch.sent,
        }
        span = self._tracer.start_span(
            "deliver",
            self._parent(trace),
            kind=api.SpanKind.CONSUMER,
            attributes=about,
            start_time=now_ns - int(seconds * 1e9),
        )
        span.end(now_ns)

    # -- both --------------------------------------------------------------------------------

    def _parent(self, trace: str | None) -> Context:
        """Return the context of a `traceparent`, never the task's, which belongs to the hub's
        start."""
        nothing = Context()
        if trace is None:
            return nothing
        return self._propagator.extract({"traceparent": trace}, nothing)

    def traceparent(self, span: Span) -> str | None:
        """Return the `traceparent` for parts of `span`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, api.set_span_in_context(span))
        return carrier.get("traceparent")


class TracedBroker:
    """A broker whose publishing is traced; implements `hub.core.ports.Broker`."""

    publish_now = None
    publish_many_now = None
    publish_many = None

    def __init__(self, broker: Broker, tracing: Tracing) -> None:
        self._broker = broker
        self._tracing = tracing

    @property
    def answers_at_once(self) -> bool:
        return self._broker.answers_at_once

    async def publish(self, request: PublishRequest) -> PublishResult:
        if (span := self._tracing.begin(request)) is None:
            return await self._broker.publish(_unsampled(request))
        try:
            trace = self._tracing.traceparent(span)
            result = await self._broker.publish(replace(request, trace=trace))
            span.set_attributes(_outcome_of(result))
        except HubError as error:
            self._tracing.fail(span, error)
            raise
        else:
            return result
        finally:
            span.end()

    @property
    def publish_soon(self) -> PublishSoon | None:
        return None if self._broker.publish_soon is None else self._publish_soon

    def _publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        publish_soon = self._broker.publish_soon
        assert publish_soon is not None  # noqa: S101 - `publish_soon` says so
        if (begun := self._tracing.begin(request)) is None:
            publish_soon(_unsampled(request), on_done)
            return
        span = begun

        def done(outcome: PublishResult | HubError) -> None:
            if isinstance(outcome, HubError):
                self._tracing.fail(span, outcome)
            else:
                span.set_attributes(_outcome_of(outcome))
            span.end()
            on_done(outcome)

        try:
            publish_soon(replace(request, trace=self._tracing.traceparent(span)), done)
        except HubError as error:
            self._tracing.fail(span, error)
            span.end()
            raise

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        await self._broker.subscribe(channel, on_open)

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        return await self._broker.state(channel, after, limit, upto=upto, max_bytes=max_bytes)

    def unsubscribe(self, channel: str) -> None:
        self._broker.unsubscribe(channel)

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        return await self._broker.history(channel, after, limit, max_bytes=max_bytes)

    async def clear(self, channel: str) -> None:
        await self._broker.clear(channel)


def _unsampled(request: PublishRequest) -> PublishRequest:
    return request if request.trace is None else replace(request, trace=None)


def _outcome_of(result: PublishResult) -> _Attributes:
    return {
        "hub.epoch": result.epoch,
        "hub.offset": result.offset,
        "hub.duplicate": result.duplicate,
    }


def _about(node: str, version: str) -> _Attributes:
    """Return attributes of this process that the environment does not set."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in given
    about: _Attributes = {"service.version": version, "service.instance.id": node}
    return about if named else about | {"service.name": _SERVICE}
