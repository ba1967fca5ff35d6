"""A node's parts, put together in the shapes that the transports take."""

import asyncio
from functools import lru_cache
from pathlib import Path

from hub import dashboard
from hub.admin.scraping import Scraping
from hub.errors import HubError
from hub.node.core import VERSION
from hub.node.node import Node
from hub.observe.log_levels import HTTP
from hub.transports.admission import UrlRules
from hub.transports.asgi import AsgiSessions, HttpApplication
from hub.transports.asgi_types import ASGIApp
from hub.transports.connection.application import Application
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.context import ConnectionContext, Run
from hub.transports.connection.door import Door
from hub.transports.connection.outgoing import WriteTurn
from hub.transports.connection.states import ConnectionLimits
from hub.transports.connection.streams import Streams
from hub.transports.http.app import make_routes
from hub.transports.http.dispatch import Dispatcher
from hub.transports.http.ports import HttpDeps, HttpLimits
from hub.transports.opening import Dialects, Openings
from hub.transports.request import Head, OnRefused
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.query import MAX_CHANNELS
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.websocket import TextDialect, WebSocketDialect

_PAGES = Path(__file__).parents[1] / "pages"


def websocket_options(node: Node) -> WebSocketOptions:
    """Return the options that all WebSockets of the node share."""
    return WebSocketOptions(
        registry=node.registry,
        heartbeats=node.core.heartbeats,
        deadlines=node.deadlines,
        turns=node.turns,
        max_message_bytes=node.settings.max_message_bytes,
        message_timeout_seconds=node.settings.body_timeout_seconds,
        token_timeout_seconds=node.settings.handshake_timeout_seconds,
    )


def openings(node: Node, websocket_options: WebSocketOptions) -> Openings:
    """Return the openings of sessions, for each transport that brings peers."""
    settings = node.settings
    minimum = settings.compression_min_bytes
    several = SeveralSseDialect()

    def websocket(window_bits: int | None) -> WebSocketDialect:
        return WebSocketDialect(window_bits=window_bits, compress_from_bytes=minimum)

    log_refusal = _refusal_log(node)

    def on_refused(error: HubError, head: Head, address: str) -> None:
        node.counters.refused[error.code] += 1
        log_refusal(error, head, address)

    return Openings(
        registry=node.registry,
        policy=node.policy,
        dialects=Dialects(lru_cache(websocket), TextDialect(), SseDialect(several), several),
        websocket=websocket_options,
        max_subscriptions=settings.max_subscriptions,
        rules=url_rules(node),
        deflate=minimum > 0,
        on_refused=on_refused,
        hooks=node.hooks,
    )


def _refusal_log(node: Node) -> OnRefused:
    def log(error: HubError, head: Head, address: str) -> None:
        node.refusals.refused(
            error.code,
            address=address,
            reason=error.message,
            origin=head.headers.get("origin"),
            host=head.headers.get("host"),
            refusal=error.refusal,
        )

    return log


def url_rules(node: Node) -> UrlRules:
    settings = node.settings
    return UrlRules(settings.namespaces(), settings.max_patterns)


def dispatcher(node: Node, app: ASGIApp | None) -> Dispatcher:
    """Return the dispatcher of the node's routes; `app` answers other paths."""
    deps = http_deps(node, app)
    return Dispatcher(make_routes(deps), deps)


def _streams(opened_by: Openings) -> Streams:
    return Streams(opened_by, sse=SseDialect(SeveralSseDialect()))


def connection_context(
    node: Node, spawn: Run, *, app: ASGIApp | None, beside: Application | None
) -> ConnectionContext:
    """Return the context of connections of the hub's own listener."""
    settings, websocket = node.settings, websocket_options(node)
    deps = http_deps(node, app)
    table = make_routes(deps)
    streams = _streams(openings(node, websocket))
    return ConnectionContext(
        dispatcher=Dispatcher(table, deps),
        streams=streams,
        door=Door(
            table,
            streams,
            limiter=node.core.limiter,
            proxies=node.proxies,
            counters=node.counters,
            policy=node.policy,
            on_refused=deps.on_refused,
            max_head_bytes=settings.max_head_bytes,
        ),
        budget=node.bodies,
        sockets=node.sockets,
        limits=ConnectionLimits(
            max_head_bytes=settings.max_head_bytes,
            handshake_timeout_seconds=settings.handshake_timeout_seconds,
            body_timeout_seconds=settings.body_timeout_seconds,
            write_timeout_seconds=settings.write_timeout_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
        ),
        arrivals=Arrivals(node.deadlines, node.clock, settings.handshake_timeout_seconds),
        deadlines=node.deadlines,
        clock=node.clock,
        counters=node.counters,
        turns=websocket.turns,
        turn=WriteTurn(asyncio.get_running_loop().call_soon),
        spawn=spawn,
        application=beside,
    )


def asgi_app(node: Node) -> ASGIApp:
    """Return the ASGI application for any other server."""
    websocket = websocket_options(node)
    opened_by = openings(node, websocket)
    return AsgiSessions(
        openings=opened_by,
        streams=_streams(opened_by),
        websocket=websocket,
        dispatcher=dispatcher(node, None),
        http=HttpApplication(node.bodies, body_timeout_seconds=node.settings.body_timeout_seconds),
        base_path=node.settings.base_path,
    )


def http_deps(node: Node, app: ASGIApp | None) -> HttpDeps:
    """Return the parts of the HTTP routes; `app` answers other paths."""
    settings, limiter = node.settings, node.core.limiter
    render = node.metrics.render
    scraped = Scraping(node.rpc, node.scraped).everywhere
    return HttpDeps(
        node=node.api,
        admin=node.rpc,
        policy=node.policy,
        poll=node.api.poll,
        ready=node.ready,
        metrics=scraped if node.reporter.worker else render,
        counters=node.counters,
        log=node.log.bind(subsystem=HTTP),
        on_refused=_refusal_log(node),
        at_once=node.broker.answers_at_once,
        version=VERSION,
        pages=_PAGES,
        client=_PAGES / "client",
        dashboard=dashboard.DIRECTORY,
        base_path=settings.base_path,
        limits=HttpLimits(
            max_message_bytes=settings.max_message_bytes,
            max_body_bytes=settings.max_body_bytes,
            max_batch_items=settings.max_batch_items,
            body_timeout_seconds=settings.body_timeout_seconds,
            body_total_bytes=settings.body_total_bytes,
            max_poll_channels=min(MAX_CHANNELS, settings.max_subscriptions),
            max_poll_wait_seconds=settings.poll_max_wait_seconds,
        ),
        proxies=node.proxies,
        url_rules=url_rules(node),
        hooks=node.hooks,
        new_connection=node.registry.new_id,
        check_publish=limiter.check_publish if limiter.limits_publishes else None,
        check_body=limiter.check_body if limiter.limits_bodies else None,
        traced=node.tracing is not None,
        fallback=app,
    )
