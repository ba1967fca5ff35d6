"""Cases of the alerts about Redis, as a node sees it."""

from tests.k8s.alert_case import NODE, Case, node

_CALL = "hub_broker_call_seconds_bucket"
_LAG = "hub_broker_lag_seconds_bucket"
_SERVERS = node("hub_broker_servers")

CASES = (
    Case(
        alert="HubBrokerAway",
        at="2m",
        fires={node("hub_broker_refusing_servers"): "1x20"},
        calm={node("hub_broker_refusing_servers"): "1 1 1 0x20"},
        labels=NODE,
        summary="Node hub-1 cannot reach Redis and refuses what needs it.",
    ),
    Case(
        alert="HubBrokerDeaf",
        at="1m",
        fires={node("hub_broker_deaf_servers"): "1x20"},
        calm={node("hub_broker_deaf_servers"): "1 1 0 0x20"},
        labels=NODE,
        summary="Node hub-1 hears nothing from Redis though it may be connected.",
    ),
    Case(
        alert="HubBrokerUnwritable",
        at="2m",
        fires={node("hub_broker_unwritable_servers"): "1x20"},
        # A failover, during which replicas were missing.
        calm={node("hub_broker_unwritable_servers"): "1 1 1 0x20"},
        labels=NODE,
        summary="Redis refuses what is published at node hub-1.",
    ),
    Case(
        alert="HubBrokerErrors",
        at="11m",
        fires={
            node("hub_broker_call_errors_total", outcome="no_answer"): "0+15x50",
            node("hub_broker_call_errors_total", outcome="refused"): "0+15x50",
            node("hub_broker_call_seconds_count"): "0+1500x50",
        },
        calm={
            node("hub_broker_call_errors_total", outcome="no_answer"): "0+3x50",
            node("hub_broker_call_seconds_count"): "0+1500x50",
        },
        labels=NODE,
        summary="2 calls a second of hub-1 to Redis come to nothing.",
    ),
    Case(
        alert="HubBrokerSlow",
        at="11m",
        fires={
            node(_CALL, le="0.25"): "0+50x50",
            node(_CALL, le="0.5"): "0+100x50",
            node(_CALL, le="+Inf"): "0+100x50",
        },
        calm={
            node(_CALL, le="0.25"): "0+199x50",
            node(_CALL, le="0.5"): "0+200x50",
            node(_CALL, le="+Inf"): "0+200x50",
        },
        labels=NODE,
        summary="Redis takes 495ms to answer hub-1.",
    ),
    Case(
        alert="HubBrokerCallsWaiting",
        at="2m",
        fires={node("hub_broker_pending_calls"): "6000x20", _SERVERS: "1x20"},
        # As many, at two servers.
        calm={node("hub_broker_pending_calls"): "6000x20", _SERVERS: "2x20"},
        labels=NODE,
        summary="6k calls of hub-1 wait for Redis.",
    ),
    Case(
        alert="HubBrokerLag",
        at="11m",
        fires={
            node(_LAG, le="1.0"): "0+50x50",
            node(_LAG, le="2.5"): "0+100x50",
            node(_LAG, le="+Inf"): "0+100x50",
        },
        calm={
            node(_LAG, le="1.0"): "0+199x50",
            node(_LAG, le="2.5"): "0+200x50",
            node(_LAG, le="+Inf"): "0+200x50",
        },
        labels=NODE,
        summary="Publications reach hub-1 2.47s late.",
    ),
    Case(
        alert="HubBrokerReconnecting",
        at="10m",
        fires={
            node("hub_broker_connects_total", connection="commands"): "1+0.25x50",
            node("hub_broker_connects_total", connection="subscriber"): "1+0.25x50",
            _SERVERS: "1x50",
        },
        # A failover.
        calm={
            node("hub_broker_connects_total", connection="commands"): "1x20 2x30",
            node("hub_broker_connects_total", connection="subscriber"): "1x20 3x30",
            _SERVERS: "1x50",
        },
        labels=NODE,
        summary="Node hub-1 connected to Redis 20 times in ten minutes.",
    ),
    Case(
        alert="HubBrokerLossy",
        at="25m",
        fires={
            node("hub_broker_filled_total"): "0+15x120",
            node("hub_broker_lost_total"): "0+15x120",
            node("hub_broker_received_total"): "0+1500x120",
        },
        # One connection that was cut in that time.
        calm={
            node("hub_broker_filled_total"): "0x60 90x60",
            node("hub_broker_lost_total"): "0x120",
            node("hub_broker_received_total"): "0+1500x120",
        },
        labels=NODE,
        summary="Redis' pub/sub loses 2 messages a second on the way to hub-1.",
    ),
    Case(
        alert="HubBrokerHoles",
        at="5m",
        fires={node("hub_broker_filling_channels"): "2x30"},
        # Holes that are filled, and others that come.
        calm={node("hub_broker_filling_channels"): "2 1 0 2 1 0 2 1 0 2 1 0 2 1 0 2 1 0 2 1 0 2 1"},
        labels=NODE,
        summary="Node hub-1 has been reading what is missing for minutes.",
    ),
    Case(
        alert="HubBrokerHeldNearLimit",
        at="1m",
        fires={
            node("hub_broker_held_bytes"): "80x10",
            node("hub_broker_held_limit_bytes"): "100x10",
        },
        # A node without Redis has room for nothing and holds nothing.
        calm={node("hub_broker_held_bytes"): "0x10", node("hub_broker_held_limit_bytes"): "0x10"},
        labels=NODE,
        summary="What waits behind holes fills 80% of its room on hub-1.",
    ),
    Case(
        alert="HubBrokerUndecodable",
        at="10m",
        fires={node("hub_broker_undecodable_total"): "0x20 1x30"},
        calm={node("hub_broker_undecodable_total"): "4x50"},
        labels=NODE,
        summary="Somebody sends into the hub's own Redis channels what hub-1 cannot read.",
    ),
)
