"""Cases of the alerts about sessions and publications."""

from tests.k8s.alert_case import HUB, NODE, Case, node

_OPEN = node("hub_connections", transport="websocket")
_DELIVERY = "hub_delivery_seconds_bucket"

CASES = (
    Case(
        alert="HubConnectionsRefused",
        at="11m",
        fires={
            node("hub_handshake_failures_total", reason="unavailable"): "0+30x50",
            node("hub_draining"): "0x50",
        },
        # A node that goes away refuses, and is meant to.
        calm={
            node("hub_handshake_failures_total", reason="unavailable"): "0+30x50",
            node("hub_draining"): "1x50",
        },
        labels=NODE,
        summary="Node hub-1 sends away 2 sessions a second.",
    ),
    Case(
        alert="HubAuthenticationFailures",
        at="25m",
        fires={
            node("hub_handshake_failures_total", reason="unauthorized"): "0+15x120",
            node("hub_http_errors_total", code="forbidden"): "0+15x120",
        },
        calm={
            node("hub_handshake_failures_total", reason="unauthorized"): "0+3x120",
            node("hub_handshake_failures_total", reason="unavailable"): "0+90x120",
            node("hub_http_errors_total", code="forbidden"): "0x120",
        },
        labels=HUB,
        summary="The hub refuses 2 wrong or missing credentials a second.",
    ),
    Case(
        alert="HubReconnectStorm",
        at="6m",
        fires={
            node("hub_connections_opened_total", transport="websocket"): "0+600x30",
            _OPEN: "1000x30",
        },
        # A roll-out of two nodes that hold 2,000 together: 1,000 in 30 s, and then the others.
        calm={
            node("hub_connections_opened_total", transport="websocket"): (
                "0x4 500 1000 1000 1000 1500 2000x20"
            ),
            _OPEN: "2000x30",
        },
        labels=HUB,
        summary="40 sessions are opened every second: they come and go.",
    ),
    Case(
        alert="HubHeartbeatTimeouts",
        at="25m",
        fires={node("hub_closes_total", code="4504"): "0+30x120", _OPEN: "1000x120"},
        calm={
            node("hub_closes_total", code="4504"): "0+3x120",
            node("hub_closes_total", code="1001"): "0+90x120",
            _OPEN: "1000x120",
        },
        labels=HUB,
        summary="2 sessions a second fall silent and are cut (4504).",
    ),
    Case(
        alert="HubSlowSessionsClosed",
        at="25m",
        fires={node("hub_closes_total", code="4508"): "0+30x120"},
        calm={
            node("hub_closes_total", code="4508"): "0+1x120",
            node("hub_closes_total", code="1000"): "0+90x120",
        },
        labels=HUB,
        summary="2 sessions a second are closed because they read too slowly (4508).",
    ),
    Case(
        alert="HubMessagesDropped",
        at="20m",
        fires={
            node("hub_dropped_total", policy="drop_oldest"): "0+300x100",
            node("hub_deliveries_total"): "0+15000x100",
        },
        calm={
            node("hub_dropped_total", policy="drop_oldest"): "0+15x100",
            node("hub_dropped_total", policy="latest_per_key"): "0+9000x100",
            node("hub_deliveries_total"): "0+15000x100",
        },
        labels=HUB,
        summary="20 messages a second do not fit into outboxes and become gaps.",
    ),
    Case(
        alert="HubPresenceDropped",
        at="25m",
        fires={node("hub_presence_dropped_total"): "0+30x120"},
        calm={node("hub_presence_dropped_total"): "0x40 5x80"},
        labels=HUB,
        summary="2 joins and leaves a second are lost on slow sessions.",
    ),
    Case(
        alert="HubDeliverySlow",
        at="20m",
        fires={
            node(_DELIVERY, le="0.5"): "0+50x100",
            node(_DELIVERY, le="1.0"): "0+100x100",
            node(_DELIVERY, le="+Inf"): "0+100x100",
        },
        calm={
            node(_DELIVERY, le="0.5"): "0+999x100",
            node(_DELIVERY, le="1.0"): "0+1000x100",
            node(_DELIVERY, le="+Inf"): "0+1000x100",
        },
        labels=NODE,
        summary="A broadcast takes node hub-1 990ms.",
    ),
    Case(
        alert="HubPublishUnavailable",
        at="6m",
        fires={
            node("hub_publish_errors_total", code="not_published"): "0+15x30",
            node("hub_publish_errors_total", code="outcome_unknown"): "0+15x30",
            node("hub_publications_total"): "0+300x30",
        },
        calm={
            node("hub_publish_errors_total", code="not_published"): "0+3x30",
            node("hub_publish_errors_total", code="conflict"): "0+90x30",
            node("hub_publications_total"): "0+300x30",
        },
        labels=NODE,
        summary="Node hub-1 answers 2 publishes a second with 503.",
    ),
    Case(
        alert="HubRequestsRejected",
        at="25m",
        fires={
            node("hub_http_errors_total", code="bad_request"): "0+15x120",
            node("hub_command_errors_total", code="too_large"): "0+15x120",
        },
        calm={
            node("hub_http_errors_total", code="not_found"): "0+90x120",
            node("hub_http_errors_total", code="bad_request"): "0+1x120",
            node("hub_command_errors_total", code="too_large"): "0x120",
        },
        labels=HUB,
        summary="Somebody sends 2 requests a second that cannot be carried out.",
    ),
    Case(
        alert="HubTokenKeysNotFetched",
        at="20m",
        fires={
            node("hub_token_key_fetches_total", outcome="timeout"): "0+2x60",
            node("hub_token_key_fetches_total", outcome="fetched"): "7x60",
        },
        calm={
            node("hub_token_key_fetches_total", outcome="timeout"): "0x60",
            node("hub_token_key_fetches_total", outcome="fetched"): "0+0.2x60",
        },
        labels=NODE,
        summary="Node hub-1 cannot get the identity provider's keys.",
    ),
    Case(
        alert="HubInternalErrors",
        at="10m",
        fires={
            node("hub_http_errors_total", code="internal"): "0x20 1x30",
            node("hub_command_errors_total", code="internal"): "0x50",
            node("hub_closes_total", code="4500"): "0x50",
        },
        calm={
            node("hub_http_errors_total", code="internal"): "7x50",
            node("hub_http_errors_total", code="not_found"): "0+9x50",
            node("hub_command_errors_total", code="internal"): "0x50",
            node("hub_closes_total", code="4500"): "0x50",
        },
        labels=NODE,
        summary="Node hub-1 logged a fault of its own.",
    ),
    Case(
        alert="HubMessagesLost",
        at="10m",
        fires={node("hub_gaps_total", reason="broker"): "0x20 1x30"},
        calm={
            node("hub_gaps_total", reason="broker"): "3x50",
            node("hub_gaps_total", reason="slow"): "0+9x50",
        },
        labels=NODE | {"reason": "broker"},
        summary="Node hub-1 announced messages as lost that history does not have.",
    ),
    Case(
        alert="HubHistoryTooShort",
        at="35m",
        fires={node("hub_gaps_total", reason="expired"): "0+15x150"},
        calm={node("hub_gaps_total", reason="expired"): "0+1x150"},
        labels=HUB,
        summary="1 resumes a second come too late for history.",
    ),
    Case(
        alert="HubInvalidPublications",
        at="10m",
        # Only by plain PUBLISH, whose numberless messages leave no gap.
        fires={
            node("hub_gaps_total", reason="invalid"): "0x50",
            node("hub_broker_raw_refused_total"): "0x20 1x30",
        },
        calm={
            node("hub_gaps_total", reason="invalid"): "5x50",
            node("hub_broker_raw_refused_total"): "7x50",
        },
        labels=HUB,
        summary="Somebody publishes past the hub what is no JSON or too large.",
    ),
    Case(
        alert="HubEpochsReset",
        at="10m",
        fires={node("hub_gaps_total", reason="reset"): "0x20 40x30"},
        calm={node("hub_gaps_total", reason="reset"): "5x50"},
        labels=HUB,
        summary="Channels began anew; history from before is gone.",
    ),
)
