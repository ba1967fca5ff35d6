"""What is exported of a broker outside this process; with one within, all of it stays 0.

All servers of a broker are counted together: which of several it is, logs and `/readyz` say.
"""

from collections.abc import Callable, Mapping

from hub.core.records import BrokerRecord
from hub.core.tally import Histogram, Tally
from hub.observe.metric_labels import CONNECTION, OUTCOME, Label

# The same shapes as in `hub.observe.metrics`.
COUNTERS: tuple[tuple[str, str, Callable[[Tally], int]], ...] = (
    (
        "hub_broker_received",
        "Publications that came by the broker's pub/sub.",
        lambda t: t.broker_received,
    ),
    (
        "hub_broker_undecodable",
        "Messages from the broker whose place in a channel could not be told.",
        lambda t: t.broker_undecodable,
    ),
    (
        "hub_broker_raw",
        "Publications without an offset that came by plain PUBLISH.",
        lambda t: t.broker_raw,
    ),
    (
        "hub_broker_raw_refused",
        "Of these, what was no JSON or too large.",
        lambda t: t.broker_raw_refused,
    ),
    (
        "hub_broker_holes",
        "Times that something of a channel was missing, or in doubt, and history was asked.",
        lambda t: t.broker_holes,
    ),
    (
        "hub_broker_filled",
        "Publications that pub/sub lost and history had.",
        lambda t: t.broker_filled,
    ),
    (
        "hub_broker_lost",
        "Publications that pub/sub lost and history had not: announced as gaps.",
        lambda t: t.broker_lost,
    ),
    (
        "hub_broker_resets",
        "New epochs of channels with a subscriber on this node.",
        lambda t: t.broker_resets,
    ),
    (
        "hub_broker_hold_refused",
        "Publications that found no room to wait behind a hole: read from history, or lost.",
        lambda t: t.broker_hold_refused,
    ),
)

LABELLED: tuple[tuple[str, str, Label, Callable[[Tally], Mapping[str, int]]], ...] = (
    (
        "hub_broker_call_errors",
        "Calls to the broker without a useful answer.",
        OUTCOME,
        lambda t: t.broker_call_errors,
    ),
    (
        "hub_broker_connects",
        "Connections made to the broker, the first ones included.",
        CONNECTION,
        lambda t: t.broker_connects,
    ),
)

HISTOGRAMS: tuple[tuple[str, str, Callable[[Tally], Histogram]], ...] = (
    (
        "hub_broker_call_seconds",
        "From asking the broker to its answer, errors included.",
        lambda t: t.broker_calls,
    ),
    (
        "hub_broker_lag_seconds",
        "From a publication's time by the broker's clock to its arrival by this machine's.",
        lambda t: t.broker_lag,
    ),
)

GAUGES: tuple[tuple[str, str, Callable[[BrokerRecord], float]], ...] = (
    ("hub_broker_servers", "Servers that the broker consists of.", lambda b: b.servers),
    (
        "hub_broker_refusing_servers",
        "Servers whose calls are refused at once because they cannot be reached.",
        lambda b: b.refusing_servers,
    ),
    (
        "hub_broker_deaf_servers",
        "Servers that carried no canary for too long: the node is not ready.",
        lambda b: b.deaf_servers,
    ),
    (
        "hub_broker_unwritable_servers",
        "Servers that refuse what is published: full, unable to save, or without replicas.",
        lambda b: b.unwritable_servers,
    ),
    (
        "hub_broker_canary_age_seconds",
        "Since the last canary came back, at the server where that is longest ago.",
        lambda b: b.canary_age_seconds,
    ),
    (
        "hub_broker_canary_round_trip_seconds",
        "The newest canary's way from publish to delivery, at the slowest server.",
        lambda b: b.canary_round_trip_seconds,
    ),
    ("hub_broker_pending_calls", "Calls asked and not answered.", lambda b: b.pending_calls),
    (
        "hub_broker_filling_channels",
        "Channels for which something missing is being read.",
        lambda b: b.filling_channels,
    ),
    (
        "hub_broker_held_bytes",
        "Bytes received that wait for what is missing before them.",
        lambda b: b.held_bytes,
    ),
    ("hub_broker_held_limit_bytes", "How many of these may wait.", lambda b: b.held_limit_bytes),
    (
        "hub_history_bytes",
        "Memory for the history of all channels, where the broker is this process.",
        lambda b: b.history_bytes,
    ),
    (
        "hub_history_limit_bytes",
        "Bytes above which the oldest publications go (HUB_HISTORY_TOTAL_BYTES).",
        lambda b: b.history_limit_bytes,
    ),
)
