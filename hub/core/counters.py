"""What has happened, as plain counters.

The core counts here because an attribute increment costs 30 ns where a metrics library's
locked counter costs ten times that, once per delivery. `hub.observe` reads them when it is
scraped. Each is declared once, with the metric that it is exported as, its HELP text and its label.
All counters only rise; gauges are computed from live state when asked.
"""

from bisect import bisect_left
from collections import Counter
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
    """A counter that is set in C, which takes 0.06 us for each count instead of 0.3.

    `Counter` deletes in Python, and a class that does so is set through Python as well. What
    is not counted cannot be deleted here.
    """

    __setitem__ = dict.__setitem__
    __delitem__ = dict.__delitem__  # type: ignore[assignment]  # only of what is counted


# What these return stands for a field's default to the type checker, as `field` itself does.


def _count(metric: str, about: str) -> Any:
    """A field that counts, exported as `metric`."""
    return field(default=0, metadata=exported(metric, about))


def _counts(metric: str, about: str, label: Label) -> Any:
    """A field that counts by the values of a label."""
    return field(default_factory=Counts, metadata=exported(metric, about, label))


def _times(metric: str, about: str) -> Any:
    """A field that counts by how long something took."""
    return field(default_factory=Histogram, metadata=exported(metric, about))


@dataclass(slots=True)
class Counters:
    """One per node, handed to every part that counts."""

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
        "Publications a session did not get because it was slow, by overflow policy.",
        POLICY,
    )
    gaps: Counts = _counts("hub_gaps", "Gap notices sent, by reason.", REASON)
    replayed: int = _count("hub_replayed", "Publications sent from history.")
    opened: Counts = _counts("hub_connections_opened", "Sessions opened, by transport.", TRANSPORT)
    closed: Counts = _counts("hub_closes", "Sessions closed, by close code.", CLOSE_CODE)
    refused: Counts = _counts(
        "hub_handshake_failures", "Sessions refused before they began, by reason.", REFUSAL
    )
    """Sessions refused before they existed, and requests that never became one, by reason."""
    refusals: Counts = _counts(
        "hub_refusals",
        "Requests refused for their credentials, their origin or their host.",
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
        "Events for the application (HUB_WEBHOOK_URL), by what became of them.",
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
    """Such calls without a useful answer: `not_sent`, `no_answer` or `refused`."""
    broker_connects: Counts = _counts(
        "hub_broker_connects",
        "Connections made to the broker, the first ones included.",
        CONNECTION,
    )
    """Connections made to it, by what they are for: `commands` or `subscriber`."""
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
