"""Cases of the alerts about nodes and what they run out of."""

from tests.k8s.alert_case import HUB, NODE, Case, node

_SCALER = {"namespace": "hub", "horizontalpodautoscaler": "hub"}
_SCALING = (
    "kube_horizontalpodautoscaler_status_condition"
    '{namespace="hub",horizontalpodautoscaler="hub",condition="ScalingActive",status="true"}'
)
_LAG = "hub_event_loop_lag_distribution_seconds_bucket"


def _replicas(which: str) -> str:
    name = f"kube_horizontalpodautoscaler_{which}_replicas"
    return f'{name}{{namespace="hub",horizontalpodautoscaler="hub"}}'


CASES = (
    Case(
        alert="HubGone",
        at="3m",
        fires={node("up"): "1x4 0x20"},
        calm={node("up"): "0x30", node("up", "hub-2"): "1x30"},
        labels={},
        summary="No node of the hub answers.",
    ),
    Case(
        alert="HubNodeDown",
        at="3m",
        fires={node("up"): "0x20", node("up", "hub-2"): "1x20"},
        # A scrape that fails now and then.
        calm={node("up"): "1 0 0 1 0 0 1 0 0 1 0 0 1 0 0"},
        labels=NODE,
        summary="Node hub-1 does not answer Prometheus.",
    ),
    Case(
        alert="HubNodeCrashing",
        at="10m",
        fires={node("process_start_time_seconds"): "1x8 2x8 3x8 4x20"},
        # One restart, such as that of a roll-out which keeps the name.
        calm={node("process_start_time_seconds"): "1x8 2x40"},
        labels=NODE,
        summary="Node hub-1 restarted 3 times in half an hour.",
    ),
    Case(
        alert="HubNodeNotReady",
        at="2m",
        fires={node("hub_ready"): "0x10", node("hub_draining"): "0x10"},
        calm={node("hub_ready"): "0x10", node("hub_draining"): "1x10"},
        labels=NODE,
        summary="Node hub-1 cannot rely on Redis and takes no new sessions.",
    ),
    Case(
        alert="HubNoNodeReady",
        at="1m",
        fires={node("hub_ready"): "0x10", node("hub_ready", "hub-2"): "0x10"},
        calm={node("hub_ready"): "0x10", node("hub_ready", "hub-2"): "1x10"},
        labels=HUB,
        summary="No node takes new sessions or publications.",
    ),
    Case(
        alert="HubDrainStuck",
        at="3m",
        fires={node("hub_draining"): "1x20"},
        # Gone after the minute that a stop may take; an operator's, over ten minutes.
        calm={
            node("hub_draining"): "1x4 stale",
            node("hub_draining", "hub-2"): "1x20",
            node("hub_connections_to_leave", "hub-2"): "1000-20x20",
        },
        labels=NODE,
        summary="Node hub-1 has been draining for longer than a stop may take, and closes no more.",
    ),
    Case(
        alert="HubNodesMissing",
        at="11m",
        fires={
            'kube_deployment_spec_replicas{deployment="hub",namespace="hub"}': "3x50",
            node("up"): "1x50",
            node("up", "hub-2"): "1x50",
            node("up", "hub-3"): "0x50",
        },
        # One node too many while a roll-out goes on.
        calm={
            'kube_deployment_spec_replicas{deployment="hub",namespace="hub"}': "1x50",
            node("up"): "1x50",
            node("up", "hub-2"): "1x50",
        },
        labels=HUB,
        summary="Fewer nodes answer than the 3 that there should be.",
    ),
    Case(
        alert="HubVersionsMixed",
        at="31m",
        fires={
            node("hub_build_info", version="1.0.0"): "1x130",
            node("hub_build_info", "hub-2", version="1.1.0"): "1x130",
        },
        calm={
            node("hub_build_info", version="1.0.0"): "1x60 stale",
            node("hub_build_info", "hub-2", version="1.1.0"): "1x130",
        },
        labels=HUB,
        summary="Nodes of 2 versions run side by side.",
    ),
    Case(
        alert="HubAutoscalerBlind",
        at="16m",
        fires={_SCALING: "0x70"},
        calm={_SCALING: "0x30 1x40"},
        labels=_SCALER | {"condition": "ScalingActive", "status": "true"},
        summary="The autoscaler gets no metrics and leaves the number of nodes as it is.",
    ),
    Case(
        alert="HubAutoscalerAtLimit",
        at="16m",
        fires={_replicas("status_desired"): "6x70", _replicas("spec_max"): "6x70"},
        calm={_replicas("status_desired"): "5x70", _replicas("spec_max"): "6x70"},
        labels=_SCALER,
        summary="The autoscaler may not add nodes to the 6 there are.",
    ),
    Case(
        alert="HubEventLoopSlow",
        at="11m",
        fires={
            node(_LAG, le="0.1"): "0+50x50",
            node(_LAG, le="0.25"): "0+60x50",
            node(_LAG, le="+Inf"): "0+60x50",
        },
        # One in two hundred is late.
        calm={
            node(_LAG, le="0.1"): "0+199x50",
            node(_LAG, le="0.25"): "0+200x50",
            node(_LAG, le="+Inf"): "0+200x50",
        },
        labels=NODE,
        summary="The event loop of hub-1 is 241ms late.",
    ),
    Case(
        alert="HubEventLoopStalls",
        at="10m",
        fires={node("hub_event_loop_stalls_total"): "0x10 0+1x40"},
        calm={node("hub_event_loop_stalls_total"): "0x10 4x40"},
        labels=NODE,
        summary="Something held the event loop of hub-1 again and again.",
    ),
    Case(
        alert="HubCpuSaturated",
        at="16m",
        fires={node("process_cpu_seconds_total"): "0+14.25x70"},
        calm={node("process_cpu_seconds_total"): "0+12x70"},
        labels=NODE,
        summary="Node hub-1 uses 95% of its one core.",
    ),
    Case(
        alert="HubMemoryHigh",
        at="6m",
        fires={
            node("process_resident_memory_bytes"): "900x30",
            node("hub_memory_limit_bytes"): "1000x30",
        },
        calm={
            node("process_resident_memory_bytes"): "800x30",
            node("hub_memory_limit_bytes"): "1000x30",
        },
        labels=NODE,
        summary="Node hub-1 holds 90% of its memory.",
    ),
    Case(
        alert="HubFileDescriptorsLow",
        at="6m",
        fires={node("process_open_fds"): "950x30", node("process_max_fds"): "1000x30"},
        calm={node("process_open_fds"): "800x30", node("process_max_fds"): "1000x30"},
        labels=NODE,
        summary="Node hub-1 has 95% of its files open.",
    ),
    Case(
        alert="HubConnectionsNearLimit",
        at="6m",
        fires={
            node("hub_connections", transport="websocket"): "500x30",
            node("hub_connections", transport="sse"): "400x30",
            node("hub_connections_limit"): "1000x30",
        },
        calm={
            node("hub_connections", transport="websocket"): "800x30",
            node("hub_connections_limit"): "1000x30",
        },
        labels=NODE,
        summary="Node hub-1 is 90% full.",
    ),
    Case(
        alert="HubOutboxNearLimit",
        at="2m",
        fires={node("hub_outbox_bytes"): "80x10", node("hub_outbox_limit_bytes"): "100x10"},
        calm={node("hub_outbox_bytes"): "70x10", node("hub_outbox_limit_bytes"): "100x10"},
        labels=NODE,
        summary="Slow readers fill 80% of hub-1's outboxes.",
    ),
)
