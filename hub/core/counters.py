"""Plain counters of events, and the rates of the last seconds that follow from them.

The core counts once per delivery. An attribute increment costs 30 ns, and a metrics library's
locked counter ten times that. `hub.observe` reads the counters at each scrape. Each is declared
once, with the name of its metric, its HELP text and its label, and has a row in
`hub/docs/metrics.md`. Counters only rise; gauges (`hub.observe.metrics.Gauges`) are computed from
live state on request.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.core.labels import (
    CLOSE_CODE,
    CODE,
    CONNECTION,
    HOOK,
    KEY_FETCH,
    KEY_RELOAD,
    LIMIT,
    OP,
    OUTCOME,
    POLICY,
    REASON,
    REFUSAL,
    REFUSED_FOR,
    TRANSPORT,
    WEBHOOK,
    Label,
    exported,
)
from hub.core.ports import Monotonic

# Upper bounds in seconds: from one tick on a calm hub (0.1 ms) to a stalled one (10 s).
LATENCY_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                  0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # fmt: skip


class Histogram:
    """Counts of observations at or below each bound, and their sum, in seconds."""

    __slots__ = ("buckets", "sum_seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.sum_seconds = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        self.buckets[bisect_left(LATENCY_BOUNDS, seconds)] += times
        self.sum_seconds += seconds * times


class Counts(Counter[str]):
    """A counter by name that is set in C, which takes 0.06 us for each count instead of 0.3.

    `Counter` deletes in Python, and Python sets the items of such a class in Python too. Deleting a
    key that is not counted raises here.
    """

    __setitem__ = dict.__setitem__
    __delitem__ = dict.__delitem__  # type: ignore[assignment]  # only of what is counted


# To the type checker the results of these functions are defaults of fields, as that of `field` is.


def _count(metric: str, about: str) -> Any:
    """Declare a counter that is exported as `metric`."""
    return field(default=0, metadata=exported(metric, about))


def _counts(metric: str, about: str, label: Label) -> Any:
    """Declare a counter for each value of a label."""
    return field(default_factory=Counts, metadata=exported(metric, about, label))


def _times(metric: str, about: str) -> Any:
    """Declare a histogram of durations."""
    return field(default_factory=Histogram, metadata=exported(metric, about))


@dataclass(slots=True)
class Counters:
    """Counts the events of a node; every part that counts has it."""

    publications: int = _count("hub_publications", "Publications accepted by this node's broker.")
    publish_errors: Counts = _counts(
        "hub_publish_errors", "Publishes that failed, by error code.", CODE
    )
    duplicates: int = _count(
        "hub_publish_duplicates", "Publishes answered from an idempotency key."
    )
    deliveries: int = _count("hub_deliveries", "Publications handed to a session's transport.")
    bytes_sent: int = _count("hub_sent_bytes", "Bytes handed to sessions' transports.")
    dropped: Counts = _counts(
        "hub_dropped",
        "Publications that a slow session did not get, by overflow policy.",
        POLICY,
    )
    gaps: Counts = _counts("hub_gaps", "Gap notices sent, by reason.", REASON)
    replayed: int = _count("hub_replayed", "Publications sent from history.")
    opened: Counts = _counts("hub_connections_opened", "Sessions opened, by transport.", TRANSPORT)
    closed: Counts = _counts("hub_closes", "Sessions closed, by close code.", CLOSE_CODE)
    refused: Counts = _counts(
        "hub_handshake_failures", "Sessions refused before they began, by reason.", REFUSAL
    )
    """Counts requests that never became a session too."""
    refusals: Counts = _counts(
        "hub_refusals",
        "Requests and connections refused, by reason.",
        REFUSED_FOR,
    )
    key_reloads: Counts = _counts(
        "hub_key_reloads", "Times that publisher keys were read again.", KEY_RELOAD
    )
    token_key_reloads: Counts = _counts(
        "hub_token_key_reloads",
        "Times that PEM files of HUB_TOKEN_PUBLIC_KEYS were read again.",
        KEY_RELOAD,
    )
    token_key_fetches: Counts = _counts(
        "hub_token_key_fetches",
        "Requests for the identity provider's keys (HUB_TOKEN_JWKS_URL).",
        KEY_FETCH,
    )
    hook_calls: Counts = _counts(
        "hub_hook_calls", "Questions to the application (HUB_HOOK_URL), by the outcome.", HOOK
    )
    hook_seconds: Histogram = _times(
        "hub_hook_seconds",
        "Time from a question to the application to its answer, errors included.",
    )
    webhook_events: Counts = _counts(
        "hub_webhook_events",
        "Events for the application (HUB_WEBHOOK_URL), by outcome.",
        WEBHOOK,
    )
    webhook_failures: int = _count(
        "hub_webhook_failures", "Requests with events that the application did not take."
    )
    rate_limited: Counts = _counts(
        "hub_rate_limited",
        "Requests refused because a peer asked for too much, by the limit.",
        LIMIT,
    )
    http_errors: Counts = _counts(
        "hub_http_errors", "HTTP requests answered with a problem document, by error code.", CODE
    )
    commands: Counts = _counts("hub_commands", "Commands carried out, by op.", OP)
    command_errors: Counts = _counts("hub_command_errors", "Error replies, by error code.", CODE)
    polls_abandoned: int = _count(
        "hub_polls_abandoned",
        "Polls that were ended because their peers were gone, or said nothing more.",
    )
    polls_evicted: int = _count(
        "hub_polls_evicted",
        "Sessions between two polls that were ended because there were too many.",
    )
    throttled: int = _count(
        "hub_throttled", "Publications that gave way to a newer one, as `every_ms` asks."
    )
    filtered: int = _count(
        "hub_filtered", "Publications that filters left out, once for each subscription."
    )
    presence_dropped: int = _count(
        "hub_presence_dropped", "Joins and leaves replaced by a presence_reset push."
    )
    broker_calls: Histogram = _times(
        "hub_broker_call_seconds", "Time from a call to the broker to its answer, errors included."
    )
    broker_call_errors: Counts = _counts(
        "hub_broker_call_errors", "Calls to the broker without a useful answer.", OUTCOME
    )
    """By outcome: `not_sent`, `no_answer` or `refused`."""
    broker_connects: Counts = _counts(
        "hub_broker_connects",
        "Connections made to the broker, the first ones included.",
        CONNECTION,
    )
    """By purpose: `commands` or `subscriber`."""
    broker_received: int = _count(
        "hub_broker_received", "Publications that came by the broker's pub/sub."
    )
    broker_undecodable: int = _count(
        "hub_broker_undecodable",
        "Messages from the broker whose channel and offset could not be read.",
    )
    broker_raw: int = _count(
        "hub_broker_raw", "Publications without an offset that came by plain PUBLISH."
    )
    broker_raw_refused: int = _count(
        "hub_broker_raw_refused", "Publications by plain PUBLISH that were no JSON, or too large."
    )
    broker_lag: Histogram = _times(
        "hub_broker_lag_seconds",
        "Time from a publication by the broker's clock to its arrival by this machine's.",
    )
    broker_holes: int = _count(
        "hub_broker_holes",
        "Times that history was asked because messages were missing or in doubt.",
    )
    broker_filled: int = _count(
        "hub_broker_filled", "Publications that pub/sub lost and history still had."
    )
    broker_lost: int = _count(
        "hub_broker_lost", "Publications that pub/sub lost and history lacked: gaps stand for them."
    )
    broker_resets: int = _count(
        "hub_broker_resets", "New epochs of channels with a subscriber on this node."
    )
    broker_hold_refused: int = _count(
        "hub_broker_hold_refused",
        "Publications that found no room to wait behind missing ones.",
    )
    journal_lost: int = _count(
        "hub_journal_lost",
        "Notes about connections that could not be written to disk (HUB_JOURNAL_PATH).",
    )
    publish_to_write: Histogram = _times(
        "hub_delivery_seconds",
        "Time from the broker's delivery to the last write, once per publication.",
    )
    heartbeat_round_trip: Histogram = _times(
        "hub_heartbeat_round_trip_seconds", "Time from a WebSocket ping to its pong."
    )


# Long enough for a steady figure, short enough to be "now". Guess, not measured.
WINDOW_SECONDS = 5.0
# The window advances this often, so it has five samples.
STEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Sample:
    at_seconds: float
    counts: tuple[int, int, int, int]
    latencies: tuple[int, ...]


class Rates:
    """Rates and latencies of the last window; 0 before a whole window has passed.

    Call `tick` at least once a second. Nothing decides by these figures: limits on peers are in
    `hub.core.limits`.
    """

    def __init__(self, counters: Counters, clock: Monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._samples = deque([self._sample()])
        self.publications_per_second = 0.0
        self.deliveries_per_second = 0.0
        self.dropped_per_second = 0.0
        self.gaps_per_second = 0.0
        self.latency_p50_seconds: float | None = None
        """From the broker's delivery to the last write; None without publications."""
        self.latency_p99_seconds: float | None = None

    def _sample(self) -> _Sample:
        counters = self._counters
        dropped, gaps = counters.dropped.total(), counters.gaps.total()
        return _Sample(
            self._clock(),
            (counters.publications, counters.deliveries, dropped, gaps),
            tuple(counters.publish_to_write.buckets),
        )

    def tick(self) -> None:
        samples, now = self._samples, self._clock()
        if now - samples[-1].at_seconds < STEP_SECONDS:
            return
        samples.append(self._sample())
        while len(samples) > 2 and now - samples[1].at_seconds >= WINDOW_SECONDS:
            samples.popleft()
        if now - samples[0].at_seconds >= WINDOW_SECONDS:
            self._show(samples[0], samples[-1])

    def _show(self, first: _Sample, last: _Sample) -> None:
        elapsed = last.at_seconds - first.at_seconds
        pairs = zip(first.counts, last.counts, strict=True)
        rates = [round((after - before) / elapsed, 2) for before, after in pairs]
        self.publications_per_second, self.deliveries_per_second = rates[0], rates[1]
        self.dropped_per_second, self.gaps_per_second = rates[2], rates[3]
        pairs = zip(first.latencies, last.latencies, strict=True)
        buckets = [after - before for before, after in pairs]
        self.latency_p50_seconds = quantile(buckets, 0.5)
        self.latency_p99_seconds = quantile(buckets, 0.99)


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the seconds below which `share` (0 to 1) of a histogram's observations lie.

    The result is interpolated within its bucket as Prometheus does. Observations beyond the last
    bound count as that bound. None without observations.
    """
    if not (total := sum(buckets)):
        return None
    rank, below, lower = share * total, 0, 0.0
    for bound, count in zip(LATENCY_BOUNDS, buckets, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return lower
