"""Cases of the alerts about the application, asked and told, and about files of keys."""

from tests.k8s.alert_case import NODE, Case, node

_CALLS, _SECONDS = "hub_hook_calls_total", "hub_hook_seconds_bucket"
_EVENTS = "hub_webhook_events_total"

CASES = (
    Case(
        alert="HubHookFailing",
        at="6m",
        fires={
            node(_CALLS, outcome="allowed"): "0+150x30",
            node(_CALLS, outcome="timeout"): "0+15x30",
            node(_CALLS, outcome="open"): "0+15x30",
        },
        calm={
            node(_CALLS, outcome="allowed"): "0+150x30",
            node(_CALLS, outcome="refused"): "0+150x30",
            node(_CALLS, outcome="timeout"): "0+15x30",
        },
        labels=NODE,
        summary="The application gives node hub-1 no usable answer 2 times a second.",
    ),
    Case(
        alert="HubHookNotAsked",
        at="5m",
        fires={node(_CALLS, outcome="open"): "0+3x30"},
        calm={node(_CALLS, outcome="open"): "9x30", node(_CALLS, outcome="timeout"): "0+3x30"},
        # Of one outcome, which its series says.
        labels=NODE | {"outcome": "open"},
        summary="Node hub-1 does not ask the application any more, because it did not answer.",
    ),
    Case(
        alert="HubHookSlow",
        at="15m",
        fires={
            node(_SECONDS, le="1.0"): "0+50x100",
            node(_SECONDS, le="2.0"): "0+100x100",
            node(_SECONDS, le="+Inf"): "0+100x100",
        },
        calm={
            node(_SECONDS, le="1.0"): "0+999x100",
            node(_SECONDS, le="2.0"): "0+1000x100",
            node(_SECONDS, le="+Inf"): "0+1000x100",
        },
        labels=NODE,
        summary="The application takes 1.98s to answer node hub-1.",
    ),
    Case(
        alert="HubWebhookEventsLost",
        at="10m",
        fires={
            node(_EVENTS, outcome="given_up"): "0x20 30x30",
            node(_EVENTS, outcome="dropped"): "0x50",
            node(_EVENTS, outcome="delivered"): "0+9x50",
        },
        calm={
            node(_EVENTS, outcome="given_up"): "30x50",
            node(_EVENTS, outcome="dropped"): "0x50",
            node(_EVENTS, outcome="delivered"): "0+9x50",
        },
        labels=NODE,
        summary="The application was never told of 30 events of node hub-1.",
    ),
    Case(
        alert="HubKeysNotRead",
        at="10m",
        fires={
            node("hub_key_reloads_total", outcome="failed"): "0x50",
            node("hub_token_key_reloads_total", outcome="failed"): "0x20 1x30",
        },
        calm={
            node("hub_key_reloads_total", outcome="failed"): "3x50",
            node("hub_key_reloads_total", outcome="read"): "0x20 1x30",
            node("hub_token_key_reloads_total", outcome="failed"): "0x50",
        },
        labels=NODE,
        summary="A file of keys has changed and node hub-1 cannot read it.",
    ),
)
