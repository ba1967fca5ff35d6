"""What Prometheus scrapes: the tally's counters and gauges of live state, in two text formats.

The core counts in a plain `Tally` (see there why), so this is a collector that reads it when
asked instead of a set of metric objects that are written. Names carry the unit, labels have
the fixed values of `hub.observe.metric_labels`, and HELP texts say what each of them means.
There is no global registry: the composition root makes one per node.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
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

from hub.core.records import BrokerRecord
from hub.core.tally import LATENCY_BOUNDS, Histogram, Tally
from hub.observe import broker_metrics
from hub.observe.loop_lag import LoopLag
from hub.observe.metric_labels import (
    CLOSE_CODE,
    CODE,
    OP,
    POLICY,
    REASON,
    REFUSAL,
    TRANSPORT,
    Label,
)

_BUCKETS = (*(str(bound) for bound in LATENCY_BOUNDS), "+Inf")
_UNITS = ("seconds", "bytes")
# The library leaves this function untyped.
_openmetrics_page: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest


@dataclass(frozen=True, slots=True)
class Gauges:
    """What holds at the moment of a scrape, computed from live state by whoever owns it."""

    connections: Mapping[str, int]
    """Open sessions by transport (`websocket`, `sse`, `poll`)."""
    subscriptions: int
    channels: int
    """Channels with at least one subscriber on this node."""
    outbox_bytes: int
    outbox_oldest_age_seconds: float
    congested_sessions: int
    ready: bool
    draining: bool
    to_leave: int
    """Connections that a drain or a rebalance under way has still to close."""
    journal_bytes: int
    http_connections: int
    """Connections that are no session: between two requests, or one is under way."""
    body_bytes: int
    """Request bodies under way."""
    connections_limit: int
    """`HUB_MAX_CONNECTIONS`; with the two below, what the numbers above are to be compared with."""
    outbox_limit_bytes: int
    """`HUB_OUTBOX_TOTAL_BYTES`."""
    memory_limit_bytes: int
    """What the machine or the cgroup lets this process use."""
    broker: BrokerRecord


# name (without the counters' `_total`), meaning, how to read it
_COUNTERS: tuple[tuple[str, str, Callable[[Tally], int]], ...] = (
    ("hub_publications", "Publications accepted by this node's broker.", lambda t: t.publications),
    (
        "hub_publish_duplicates",
        "Publishes answered from an idempotency key.",
        lambda t: t.duplicates,
    ),
    ("hub_deliveries", "Publications handed to a session's transport.", lambda t: t.deliveries),
    ("hub_sent_bytes", "Bytes handed to sessions' transports.", lambda t: t.bytes_sent),
    ("hub_replayed", "Publications sent from history.", lambda t: t.replayed),
    (
        "hub_polls_abandoned",
        "Polls that were ended because their peers were gone, or said nothing more.",
        lambda t: t.polls_abandoned,
    ),
    (
        "hub_polls_evicted",
        "Sessions between two polls that were ended because there were too many.",
        lambda t: t.polls_evicted,
    ),
    (
        "hub_presence_dropped",
        "Joins and leaves replaced by a presence_reset push.",
        lambda t: t.presence_dropped,
    ),
)

_LABELLED: tuple[tuple[str, str, Label, Callable[[Tally], Mapping[str, int]]], ...] = (
    (
        "hub_publish_errors",
        "Publishes that failed, by error code.",
        CODE,
        lambda t: t.publish_errors,
    ),
    (
        "hub_dropped",
        "Publications a session did not get because it was slow, by overflow policy.",
        POLICY,
        lambda t: t.dropped,
    ),
    ("hub_gaps", "Gap notices sent, by reason.", REASON, lambda t: t.gaps),
    ("hub_connections_opened", "Sessions opened, by transport.", TRANSPORT, lambda t: t.opened),
    ("hub_closes", "Sessions closed, by close code.", CLOSE_CODE, lambda t: t.closed),
    (
        "hub_handshake_failures",
        "Sessions refused before they existed, by reason.",
        REFUSAL,
        lambda t: t.refused,
    ),
    (
        "hub_http_errors",
        "HTTP requests answered with a problem document, by error code.",
        CODE,
        lambda t: t.http_errors,
    ),
    ("hub_commands", "Commands carried out, by op.", OP, lambda t: t.commands),
    ("hub_command_errors", "Error replies, by error code.", CODE, lambda t: t.command_errors),
)

_HISTOGRAMS: tuple[tuple[str, str, Callable[[Tally], Histogram]], ...] = (
    (
        "hub_delivery_seconds",
        "From the broker's delivery to the last write of the publication, once per publication.",
        lambda t: t.publish_to_write,
    ),
    (
        "hub_heartbeat_round_trip_seconds",
        "From a WebSocket ping to its pong.",
        lambda t: t.heartbeat_round_trip,
    ),
)

_GAUGES: tuple[tuple[str, str, Callable[[Gauges], float]], ...] = (
    ("hub_subscriptions", "Subscriptions of all open sessions.", lambda g: g.subscriptions),
    ("hub_channels", "Channels with a subscriber on this node.", lambda g: g.channels),
    ("hub_outbox_bytes", "Bytes owed to sessions that read too slowly.", lambda g: g.outbox_bytes),
    (
        "hub_outbox_oldest_age_seconds",
        "Age of the oldest publication still owed to a session.",
        lambda g: g.outbox_oldest_age_seconds,
    ),
    (
        "hub_congested_sessions",
        "Sessions whose transport takes no writes now.",
        lambda g: g.congested_sessions,
    ),
    ("hub_ready", "1 while the node takes new sessions, else 0.", lambda g: g.ready),
    ("hub_draining", "1 while the node is stopping, else 0.", lambda g: g.draining),
    (
        "hub_connections_to_leave",
        "Connections that a drain or a rebalance has still to close.",
        lambda g: g.to_leave,
    ),
    (
        "hub_journal_bytes",
        "Memory for what happened to connections (HUB_JOURNAL_BYTES bounds it).",
        lambda g: g.journal_bytes,
    ),
    (
        "hub_http_connections",
        "Connections of peers that are no session now.",
        lambda g: g.http_connections,
    ),
    (
        "hub_body_bytes",
        "Request bodies under way (HUB_BODY_TOTAL_BYTES bounds them).",
        lambda g: g.body_bytes,
    ),
    (
        "hub_connections_limit",
        "Connections of every kind above which new ones are refused.",
        lambda g: g.connections_limit,
    ),
    (
        "hub_outbox_limit_bytes",
        "Bytes owed to all sessions above which the one owed most is closed.",
        lambda g: g.outbox_limit_bytes,
    ),
    (
        "hub_memory_limit_bytes",
        "Memory that the machine or the container lets this process use.",
        lambda g: g.memory_limit_bytes,
    ),
)

_LOOP_GAUGES: tuple[tuple[str, str, Callable[[LoopLag], float]], ...] = (
    (
        "hub_event_loop_lag_seconds",
        "How late the event loop's timer fired last.",
        lambda lag: lag.lag_seconds,
    ),
    (
        "hub_event_loop_lag_max_seconds",
        "The latest that timer ever fired on this node.",
        lambda lag: lag.max_lag_seconds,
    ),
)


class HubCollector(Collector):
    """Reads one node's numbers. Must be called in the event loop's thread, which owns them."""

    def __init__(
        self, tally: Tally, gauges: Callable[[], Gauges], loop_lag: LoopLag, *, version: str
    ) -> None:
        self._tally = tally
        self._gauges = gauges
        self._loop_lag = loop_lag
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._live()
        yield from self._loop()
        build = GaugeMetricFamily(
            "hub_build_info", "Always 1; the label tells the hub's version.", labels=["version"]
        )
        build.add_metric([self._version], 1)
        yield build

    def _counters(self) -> Iterator[Metric]:
        for name, text, count in (*_COUNTERS, *broker_metrics.COUNTERS):
            yield CounterMetricFamily(name, text, count(self._tally), unit=_unit(name))
        for name, text, label, counts in (*_LABELLED, *broker_metrics.LABELLED):
            family = CounterMetricFamily(name, _help(text, label), labels=[label.name])
            for value, number in label.fold(counts(self._tally)).items():
                family.add_metric([value], number)
            yield family
        for name, text, histogram in (*_HISTOGRAMS, *broker_metrics.HISTOGRAMS):
            yield _histogram(name, text, histogram(self._tally))

    def _live(self) -> Iterator[Metric]:
        gauges = self._gauges()
        for name, text, read in _GAUGES:
            yield GaugeMetricFamily(name, text, float(read(gauges)), unit=_unit(name))
        text = _help("Open sessions, by transport.", TRANSPORT)
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
            "How often that timer was late enough to be logged.",
            self._loop_lag.stalls,
        )
        yield _histogram(
            "hub_event_loop_lag_distribution_seconds",
            "How late the event loop's timer fired, four times a second.",
            self._loop_lag.histogram,
        )


class Metrics:
    """Renders a registry that holds the hub's numbers and those of the process.

    The process collector lists open files: 12 ms with 15,000 of them (measured, Linux 6,
    Python 3.11), which a scrape every 15 s may cost; mind it before scraping more often.
    """

    def __init__(self, registry: CollectorRegistry, collector: HubCollector) -> None:
        """Register everything on `registry`, which must be new."""
        self._registry = registry
        registry.register(collector)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics where `accept` names it, else plain text."""
        # Not the library's choice by header: it raises on a version it cannot read and
        # repeats any other to the caller.
        if "application/openmetrics-text" in accept.lower():
            return _openmetrics_page(self._registry), openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


def _broker(broker: BrokerRecord) -> Iterator[Metric]:
    for name, text, read in broker_metrics.GAUGES:
        yield GaugeMetricFamily(name, text, float(read(broker)), unit=_unit(name))
    versions = GaugeMetricFamily(
        "hub_broker_info", "Servers of the broker, by the version they run.", labels=["version"]
    )
    for version, servers in broker.versions.items():
        versions.add_metric([version], servers)
    yield versions


def _help(text: str, label: Label) -> str:
    return f"{text} {label.describe()}; other: any other."


def _unit(name: str) -> str:
    last = name.rpartition("_")[2]
    return last if last in _UNITS else ""


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    """`histogram` as Prometheus wants it: each bucket counts all that lie at or below it."""
    buckets = list(zip(_BUCKETS, map(float, accumulate(histogram.buckets)), strict=True))
    return HistogramMetricFamily(name, text, buckets, histogram.sum_seconds, unit=_unit(name))
