"""What the transports are handed: a node's parts in the shapes they ask for."""

from functools import lru_cache
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from hub import dashboard
from hub.node import Node
from hub.node_core import VERSION
from hub.observe.log_levels import HTTP
from hub.observe.loop_lag import LoopLag
from hub.observe.metrics import HubCollector, Metrics
from hub.transports.asgi import AsgiOptions, AsgiSessions
from hub.transports.front_door import DoorOptions
from hub.transports.http.app import make_http_app
from hub.transports.http.ports import HttpDeps, HttpLimits
from hub.transports.opening import Dialects, Openings
from hub.transports.turns import Turns
from hub.transports.websocket import WebSocketOptions
from hub.wire.poll import MAX_CHANNELS
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.text import TextDialect
from hub.wire.websocket import WebSocketDialect

_PAGES = Path(__file__).parent / "pages"


def websocket_options(node: Node) -> WebSocketOptions:
    """What all WebSockets of the node share."""
    return WebSocketOptions(
        engine=node.engine,
        heartbeats=node.core.heartbeats,
        deadlines=node.deadlines,
        turns=Turns(node.clock),
        max_message_bytes=node.settings.max_message_bytes,
        message_timeout_seconds=node.settings.body_timeout_seconds,
    )


def openings(node: Node, websocket_options: WebSocketOptions) -> Openings:
    """For whatever brings peers to the node."""
    settings = node.settings
    minimum = settings.compression_min_bytes
    several = SeveralSseDialect()

    def websocket(window_bits: int | None) -> WebSocketDialect:
        return WebSocketDialect(window_bits=window_bits, compress_from_bytes=minimum)

    return Openings(
        engine=node.engine,
        policy=node.policy,
        dialects=Dialects(lru_cache(websocket), TextDialect(), SseDialect(several), several),
        websocket=websocket_options,
        tally=node.tally,
        max_subscriptions=settings.max_subscriptions,
        deflate=minimum > 0,
    )


def door_options(node: Node) -> DoorOptions:
    """For the front door of the hub's own listener."""
    settings = node.settings
    return DoorOptions(
        openings=openings(node, websocket_options(node)),
        tally=node.tally,
        deadlines=node.deadlines,
        clock=node.clock,
        base_path=settings.base_path.encode(),
        max_head_bytes=settings.max_head_bytes,
        handshake_timeout_seconds=settings.handshake_timeout_seconds,
    )


def asgi_app(node: Node, lag: LoopLag) -> ASGIApp:
    """For any other ASGI server."""
    websocket = websocket_options(node)
    options = AsgiOptions(openings(node, websocket), websocket, node.tally)
    return AsgiSessions(options, make_http_app(http_deps(node, lag, None)))


def http_deps(node: Node, lag: LoopLag, app: ASGIApp | None) -> HttpDeps:
    """For the HTTP routes; `app` answers what the hub does not."""
    settings = node.settings
    collector = HubCollector(node.tally, node.reporter.gauges, lag, version=VERSION)
    metrics = Metrics(CollectorRegistry(), collector)
    return HttpDeps(
        engine=node.api,
        operators=node.operators,
        policy=node.policy,
        poll=node.api.poll,
        ready=node.ready,
        metrics=metrics.render,
        tally=node.tally,
        log=node.log.bind(subsystem=HTTP),
        version=VERSION,
        pages=_PAGES,
        client=_PAGES / "client",
        dashboard=dashboard.DIRECTORY,
        base_path=settings.base_path,
        limits=HttpLimits(
            max_message_bytes=settings.max_message_bytes,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_seconds=settings.body_timeout_seconds,
            max_batch_items=settings.max_batch_items,
            max_poll_channels=min(MAX_CHANNELS, settings.max_subscriptions),
            max_poll_wait_seconds=settings.poll_max_wait_seconds,
        ),
        traced=node.tracing is not None,
        fallback=app,
    )
