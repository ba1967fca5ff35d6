"""Spans: which requests are traced, what a span says, and what goes on to the other nodes."""

import asyncio
import sys
import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from hub.brokers.idempotency import IdempotencyKeys
from hub.brokers.memory import MemoryBroker
from hub.core.options import Namespaces
from hub.core.ports import Downstream, PublishRequest, PublishResult
from hub.core.publication import Publication
from hub.core.pushes import Change, Gap, PresenceReset
from hub.errors import ConflictError, HubError, SettingsError
from hub.node.core import make_tracing
from tests.core.fakes import LatentBroker
from tests.support.waiting import eventually

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, use_span

from hub.core.fanout.batch import Batch
from hub.core.publication import Position
from hub.observe.tracing import Tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
REQUEST = PublishRequest("prices", b'{"secret":1}', "ann", key="eur")


class Delivered(Downstream):
    """Keeps what the broker hands over."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []

    def deliver(self, publication: Publication) -> None:
        self.publications.append(publication)

    def lost(self, gap: Gap) -> None: ...

    def reset(self, channel: str, head: Position) -> None: ...

    def announce(self, channel: str, change: Change | PresenceReset) -> None: ...


def _soon(work: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_soon(work)


class Rig:
    """A traced memory broker, and the spans that ended."""

    def __init__(self, share: float, *, waits: bool = False, calls_back: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        processor = (
            BatchSpanProcessor(self.exporter, schedule_delay_millis=3_600_000)
            if waits
            else SimpleSpanProcessor(self.exporter)
        )
        self.tracing = Tracing(share, node="n1", version="1", processor=processor)
        self.delivered = Delivered()
        memory = MemoryBroker(
            downstream=self.delivered,
            namespaces=Namespaces(),
            clock=time.monotonic,
            wall_clock=time.time,
            idempotency=IdempotencyKeys(ttl_seconds=300, clock=time.monotonic),
            position_ttl_seconds=60,
            max_channels=10,
        )
        below = LatentBroker(memory, _soon) if calls_back else memory
        self.broker = self.tracing.traced(below)

    async def publish(self, request: PublishRequest) -> Publication:
        await self.broker.subscribe(request.channel, lambda _head: None)
        if (publish_soon := self.broker.publish_soon) is None:
            await self.broker.publish(request)
            return self.delivered.publications[-1]
        outcomes: list[PublishResult | HubError] = []
        publish_soon(request, outcomes.append)
        await eventually(lambda: outcomes)
        (outcome,) = outcomes
        if isinstance(outcome, HubError):
            raise outcome
        return self.delivered.publications[-1]

    def write(self, *publications: Publication, seconds: float = 0.0) -> None:
        batch = Batch(publications, epoch="e1", base=0, last=1, at_seconds=0)
        batch.sent = 3
        self.tracing.written(batch, publications, seconds)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def hexadecimal(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    context = span.context
    assert context is not None
    parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", parent


@pytest.mark.parametrize("calls_back", [False, True])
async def test_a_publishing_and_its_delivery_are_spans_of_the_publishers_trace(
    calls_back: bool,
) -> None:
    """The publication carries the publish span's own `traceparent` to whoever delivers it."""
    rig = Rig(1e-9, calls_back=calls_back)
    publication = await rig.publish(replace(REQUEST, trace=SAMPLED))
    rig.write(publication, seconds=0.5)
    (published,), (delivered,) = rig.spans("publish"), rig.spans("deliver")
    trace, span, parent = hexadecimal(published)
    assert (trace, parent) == (TRACE, SPAN)
    assert publication.trace == f"00-{TRACE}-{span}-01"
    assert hexadecimal(delivered)[::2] == (TRACE, span)
    assert (published.kind, delivered.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert delivered.end_time is not None
    assert delivered.start_time is not None
    assert delivered.end_time - delivered.start_time == 500_000_000


@pytest.mark.parametrize("calls_back", [False, True])
async def test_spans_say_where_and_how_many_and_never_what(calls_back: bool) -> None:
    """Channel, position, sessions and size; no payload, key or subject."""
    rig = Rig(1, calls_back=calls_back)
    rig.write(await rig.publish(replace(REQUEST, sender="ann")))
    (published,), (delivered,) = rig.spans("publish"), rig.spans("deliver")
    assert published.attributes is not None
    assert delivered.attributes is not None
    assert published.attributes["messaging.destination.name"] == "prices"
    assert published.attributes["hub.offset"] == 1
    assert published.attributes["hub.duplicate"] is False
    assert delivered.attributes["hub.sessions"] == 3
    assert delivered.attributes["hub.epoch"] == "e1"
    assert delivered.attributes["messaging.message.body.size"] == len(REQUEST.data)
    said = published.to_json() + delivered.to_json()
    assert not [word for word in ("secret", "ann", "eur") if word in said]
    assert published.resource.attributes["service.name"] == "broadcast-hub"
    assert published.resource.attributes["service.instance.id"] == "n1"


@pytest.mark.parametrize(
    ("share", "given", "traced"),
    [(1, None, True), (1, UNSAMPLED, False), (1e-9, None, False), (1e-9, SAMPLED, True),
     (1, "nonsense", True), (1, "", True)],
)  # fmt: skip
async def test_the_publishers_decision_comes_before_the_share(
    share: float, given: str | None, traced: bool
) -> None:
    """Where a `traceparent` says nothing that can be read, the share decides."""
    rig = Rig(share)
    publication = await rig.publish(replace(REQUEST, trace=given))
    rig.write(publication)
    counts = (len(rig.spans("publish")), len(rig.spans("deliver")))
    assert counts == ((1, 1) if traced else (0, 0))
    assert (publication.trace is not None) is traced


async def test_only_the_traced_publications_of_a_batch_get_a_span() -> None:
    """The others are written with them and cost nothing more."""
    rig = Rig(1e-9)
    plain = await rig.publish(REQUEST)
    traced = await rig.publish(replace(REQUEST, trace=SAMPLED))
    rig.write(plain, traced, plain)
    assert len(rig.spans("deliver")) == 1


@pytest.mark.parametrize("calls_back", [False, True])
async def test_a_publishing_that_fails_is_marked_by_its_code(calls_back: bool) -> None:
    """Its message is not shown: it may name an idempotency key."""
    rig = Rig(1, calls_back=calls_back)
    await rig.publish(replace(REQUEST, idempotency_key="once-only"))
    with pytest.raises(ConflictError):
        await rig.publish(replace(REQUEST, data=b"2", idempotency_key="once-only"))
    failed = rig.spans("publish")[-1]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "conflict"
    assert "once-only" not in failed.to_json()


async def test_the_span_around_the_hub_is_nobodys_parent() -> None:
    """A session's task has the context of whoever started the hub: it is not what it is part of."""
    rig = Rig(1)
    outer = TracerProvider(shutdown_on_exit=False).get_tracer("app").start_span("start")
    with use_span(outer):
        await rig.publish(REQUEST)
        inside = rig.tracing.current()
    assert rig.spans("publish")[0].parent is None
    here = outer.get_span_context()
    assert inside is not None
    assert inside.startswith(f"00-{here.trace_id:032x}-{here.span_id:016x}-")
    assert not get_current_span().get_span_context().is_valid
    assert rig.tracing.current() is None


async def test_stopping_exports_what_waits_and_a_second_stop_does_no_harm() -> None:
    """Without it the SDK would export in its own time."""
    rig = Rig(1, waits=True)
    await rig.publish(REQUEST)
    assert rig.spans("publish") == []
    await rig.tracing.stop()
    await rig.tracing.stop()
    assert len(rig.spans("publish")) == 1


def test_a_share_of_nothing_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry is not loaded either."""
    monkeypatch.setitem(sys.modules, "hub.observe.tracing", None)
    assert make_tracing(0, node="n1", version="1") is None


def test_without_the_extra_a_share_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the start, not at the first publication."""
    monkeypatch.setitem(sys.modules, "hub.observe.tracing", None)
    with pytest.raises(SettingsError, match=r"HUB_TRACE_SAMPLE is 0\.5.*broadcast-hub\[otel\]"):
        make_tracing(0.5, node="n1", version="1")


@pytest.mark.parametrize(
    ("name", "text"),
    [("OTEL_SERVICE_NAME", "shop"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop")],
)
async def test_the_environment_may_name_the_service(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """By OpenTelemetry's own variables."""
    monkeypatch.setenv(name, text)
    rig = Rig(1)
    await rig.publish(REQUEST)
    assert rig.spans("publish")[0].resource.attributes["service.name"] == "shop"
