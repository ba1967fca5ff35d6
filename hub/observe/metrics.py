"""The metrics page for Prometheus: a node's counters and gauges, in two text formats.

The core counts in plain `Counters` (see there why), so this is a collector that reads it when asked
instead of a set of metric objects that are written. Names carry the unit, labels have the fixed
values of `hub.core.labels`. HELP texts are a short sentence each, because every scrape carries
them; `hub/docs/metrics.md` explains the values. There is no global registry: the composition root
makes one per node.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    generate_latest,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from hub.core.counters import LATENCY_BOUNDS, Counters, Histogram
from hub.core.labels import TRANSPORT, Exported, exported
from hub.core.node_records import BrokerRecord
from hub.core.ports import Defer
from hub.observe.loop_lag import LoopLag
from hub.observe.process import ProcessNumbers

_BUCKETS = (*(str(bound) for bound in LATENCY_BOUNDS), "+Inf")
_UNITS = ("seconds", "bytes")
# The library leaves this function untyped.
_openmetrics_page: Callable[[Any], bytes] = openmetrics.generate_latest
_END = b"# EOF\n"


def _gauge(metric: str, about: str) -> Any:
    """Return a field that is exported as `metric`."""
    return field(metadata=exported(metric, about))


@dataclass(frozen=True, slots=True)
class Gauges:
    """Live state at the moment of a scrape, computed by its owner."""

    connections: Mapping[str, int]
    """Open sessions by transport (`websocket`, `sse`, `poll`)."""
    broker: BrokerRecord
    subscriptions: int = _gauge("hub_subscriptions", "Subscriptions of all open sessions.")
    channels: int = _gauge("hub_channels", "Channels with a subscriber on this node.")
    outbox_bytes: int = _gauge("hub_outbox_bytes", "Bytes owed to sessions that read too slowly.")
    outbox_oldest_age_seconds: float = _gauge(
        "hub_outbox_oldest_age_seconds", "Age of the oldest publication still owed to a session."
    )
    congested_sessions: int = _gauge(
        "hub_congested_sessions", "Sessions whose transport takes no writes now."
    )
    ready: bool = _gauge("hub_ready", "1 while the node takes new sessions, else 0.")
    draining: bool = _gauge("hub_draining", "1 while the node is stopping, else 0.")
    to_leave: int = _gauge(
        "hub_connections_to_leave", "Connections that a drain or a rebalance has still to close."
    )
    journal_bytes: int = _gauge(
        "hub_journal_bytes",
        "Memory for what happened to connections (HUB_JOURNAL_BYTES bounds it).",
    )
    journal_disk_bytes: int = _gauge(
        "hub_journal_disk_bytes",
        "Disk for what happened to connections (HUB_JOURNAL_DISK_BYTES bounds it).",
    )
    http_connections: int = _gauge(
        "hub_http_connections", "Connections over HTTP that belong to no session."
    )
    """Connections that are no session: between two requests, or one is under way."""
    body_bytes: int = _gauge(
        "hub_body_bytes", "Request bodies under way (HUB_BODY_TOTAL_BYTES bounds them)."
    )
    connections_limit: int = _gauge(
        "hub_connections_limit", "Connections of every kind above which new ones are refused."
    )
    """`HUB_MAX_CONNECTIONS`. It and the two below are the limits of the numbers above."""
    outbox_limit_bytes: int = _gauge(
        "hub_outbox_limit_bytes",
        "Bound of the bytes owed to all sessions; above it the session owed most is closed.",
    )
    """`HUB_OUTBOX_TOTAL_BYTES`."""
    memory_limit_bytes: int = _gauge(
        "hub_memory_limit_bytes", "Memory that the machine or the container lets this process use."
    )
    bans: int = field(
        default=0,
        metadata=exported("hub_bans", "Bans and revocations that this node knows of."),
    )
    patterns: int = field(
        default=0,
        metadata=exported("hub_patterns", "Subscriptions of all open sessions to patterns."),
    )
    unkept_bytes: int = field(
        default=0,
        metadata=exported(
            "hub_unkept_bytes", "Bytes without history that wait while a session reads history."
        ),
    )


_LOOP_GAUGES: tuple[tuple[str, str, Callable[[LoopLag], float]], ...] = (
    (
        "hub_event_loop_lag_seconds",
        "Last delay of the event loop's timer.",
        lambda lag: lag.lag_seconds,
    ),
    (
        "hub_event_loop_lag_max_seconds",
        "Longest delay of that timer since the node started.",
        lambda lag: lag.max_lag_seconds,
    ),
)


class HubCollector(Collector):
    """Reads one node's numbers. Must be called in the event loop's thread, which owns them."""

    def __init__(
        self, counters: Counters, gauges: Callable[[], Gauges], loop_lag: LoopLag, *, version: str
    ) -> None:
        self._counters = counters
        self._gauges = gauges
        self._loop_lag = loop_lag
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield from self._counted()
        yield from self._live()
        yield from self._loop()
        build = GaugeMetricFamily(
            "hub_build_info", "Always 1; the label tells the hub's version.", labels=["version"]
        )
        build.add_metric([self._version], 1)
        yield build

    def _counted(self) -> Iterator[Metric]:
        for told, value in _exported(self._counters):
            name, text, label = told.metric, told.about, told.label
            if isinstance(value, Histogram):
                yield _histogram(name, text, value)
            elif label is None:
                yield CounterMetricFamily(name, text, value, unit=_unit(name))
            else:
                family = CounterMetricFamily(name, text, labels=[label.name])
                for known, number in label.fold(value).items():
                    family.add_metric([known], number)
                yield family

    def _live(self) -> Iterator[Metric]:
        gauges = self._gauges()
        yield from _gauges(gauges)
        text = "Open sessions, by transport."
        connections = GaugeMetricFamily("hub_connections", text, labels=[TRANSPORT.name])
        for value, number in TRANSPORT.fold(gauges.connections).items():
            connections.add_metric([value], number)
        yield connections
        yield from _broker(gauges.broker)

    def _loop(self) -> Iterator[Metric]:
        for name, text, read in _LOOP_GAUGES:
            yield GaugeMetricFamily(name, text, read(self._loop_lag), unit="seconds")
        yield CounterMetricFamily(
            "hub_event_loop_stalls",
            "Times that this delay was long enough to be logged.",
            self._loop_lag.stalls,
        )
        yield _histogram(
            "hub_event_loop_lag_distribution_seconds",
            "How late the event loop's timer fired, four times a second.",
            self._loop_lag.histogram,
        )


class _Labelled:
    """A registry whose samples all have the label `worker`."""

    def __init__(self, registry: CollectorRegistry, worker: str) -> None:
        self._registry = registry
        self._label = {"worker": worker}

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [
                sample._replace(labels=self._label | sample.labels) for sample in family.samples
            ]
            yield family


def merged(pages: Sequence[bytes]) -> bytes:
    """Return several workers' pages as one: each family stands once, with the samples of all.

    Samples name their worker, so none is there twice. They are not added up: a worker that begins
    anew begins its counters anew, which Prometheus sees in each series alone.
    """
    families: dict[bytes, list[bytes]] = {}
    for page in pages:
        samples: list[bytes] = []
        is_new = True
        for line in page.removesuffix(_END).splitlines(keepends=True):
            if line.startswith(b"# HELP "):
                samples = families.setdefault(line.split(b" ", 3)[2], [])
                is_new = not samples
            if not line.startswith(b"# ") or is_new:
                samples.append(line)
    end = _END if any(page.endswith(_END) for page in pages) else b""
    return b"".join(line for samples in families.values() for line in samples) + end


class Metrics:
    """Renders a registry that holds the hub's numbers and those of the process.

    Requests that are answered in one turn of the loop share a page. It is not kept for longer:
    who publishes and then looks wants to see it.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        collector: HubCollector,
        *,
        defer: Defer | None = None,
        worker: int = 0,
    ) -> None:
        """Register everything on `registry`, which must be new; without `defer` no page is kept.

        With a number of a worker every sample says it, as the label `worker`.
        """
        self._registry = _Labelled(registry, str(worker)) if worker else registry
        self._defer = defer
        self._pages: dict[bool, bytes] = {}
        """Rendered in this turn of the loop, by whether they are OpenMetrics."""
        registry.register(collector)
        registry.register(ProcessNumbers())
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics where `accept` names it, else plain text."""
        # Not the library's choice by header: it raises on a version it cannot read and
        # repeats any other to the caller.
        is_open = "application/openmetrics-text" in accept.lower()
        page = self._pages.get(is_open)
        if page is None:
            page = self._page(is_open=is_open)
            self._keep(page, is_open=is_open)
        return page, openmetrics.CONTENT_TYPE_LATEST if is_open else CONTENT_TYPE_PLAIN_0_0_4

    def _page(self, *, is_open: bool) -> bytes:
        # They call no more of a registry than `collect`.
        registry: Any = self._registry
        return (_openmetrics_page if is_open else generate_latest)(registry)

    def _keep(self, page: bytes, *, is_open: bool) -> None:
        if self._defer is not None:
            if not self._pages:
                self._defer(self._pages.clear)
            self._pages[is_open] = page


def _exported(record: Any) -> Iterator[tuple[Exported, Any]]:
    """Yield the exported fields of a record, with their values."""
    for each in fields(record):
        if (told := each.metadata.get("exported")) is not None:
            yield told, getattr(record, each.name)


def _gauges(record: Any) -> Iterator[Metric]:
    for told, value in _exported(record):
        name = told.metric
        yield GaugeMetricFamily(name, told.about, float(value), unit=_unit(name))


def _broker(broker: BrokerRecord) -> Iterator[Metric]:
    yield from _gauges(broker)
    versions = GaugeMetricFamily(
        "hub_broker_info", "Servers of the broker, by the version they run.", labels=["version"]
    )
    for version, servers in broker.versions.items():
        versions.add_metric([version], servers)
    yield versions


def _unit(name: str) -> str:
    last = name.rpartition("_")[2]
    return last if last in _UNITS else ""


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    """Return the family of `histogram`: each bucket counts all values at or below it."""
    buckets = list(zip(_BUCKETS, map(float, accumulate(histogram.buckets)), strict=True))
    return HistogramMetricFamily(name, text, buckets, histogram.sum_seconds, unit=_unit(name))
