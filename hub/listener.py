"""The one port: uvicorn's server with our front door, and who may end it."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from hub import dashboard
from hub.errors import SettingsError
from hub.node import VERSION, Node
from hub.observe.loop_lag import LoopLag
from hub.observe.metrics import HubCollector, Metrics
from hub.transports.admission import Admission
from hub.transports.front_door import Dialects, DoorOptions
from hub.transports.http.app import make_http_app
from hub.transports.http.ports import HttpDeps, HttpLimits
from hub.transports.http_protocol import http_protocol_factory
from hub.transports.poll import PollTransport
from hub.transports.websocket import WebSocketOptions
from hub.wire.poll import PollDialect
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.websocket import WebSocketDialect

_PAGES = Path(__file__).parent / "pages"
# Of HTTP requests under way when the server stops; sessions are gone by then.
_GRACEFUL_SECONDS = 2
_KEEP_ALIVE_SECONDS = 65
"""Longer than the idle time-outs of common load balancers (60 s), which must end it first."""


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handlers: signals are the hub's (DESIGN.md 4)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _bind(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket; raise `SettingsError` that says what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(backlog)
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise SettingsError(
            f"HUB_HOST and HUB_PORT are {host} and {port}: cannot listen there ({reason}); "
            "choose another port, or 0 for any free one"
        ) from error
    return bound


class Listener:
    """Listens from `start` to `stop`.

    `app` is the application that answers what the hub does not.
    """

    def __init__(self, node: Node, lag: LoopLag, app: ASGIApp | None) -> None:
        self._node = node
        self._lag = lag
        self._app = app
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.url = ""
        """Where the hub answers, without a slash at its end; set by `start`."""

    async def start(self) -> None:
        """Bind and listen; raise `SettingsError` where that cannot be done."""
        settings = self._node.settings
        bound = _bind(settings.host, settings.port, settings.backlog)
        # Inherited by every connection: what the kernel holds unsent is stale before it is sent.
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            lowat = settings.socket_notsent_bytes
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, lowat)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{bound.getsockname()[1]}{settings.base_path}"
        self._server = _Server(self._config())
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))
        while not self._server.started:
            if self._serving.done():
                # The application's own start failed and was logged by uvicorn.
                self._serving.result()
                raise SettingsError("the application did not start")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Close the listener and what is left of HTTP requests."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            make_http_app(self._http_deps()),
            # uvicorn calls whatever class it is given; ours makes a front door.
            http=http_protocol_factory(self._door_options()),  # type: ignore[arg-type]
            ws="none",
            lifespan="off" if self._app is None else "on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        )

    def _door_options(self) -> DoorOptions:
        node, settings = self._node, self._node.settings
        minimum = settings.compression_min_bytes
        several = SeveralSseDialect()
        return DoorOptions(
            engine=node.engine,
            admission=Admission(node.engine, node.policy),
            dialects=Dialects(
                websocket=lru_cache(
                    lambda bits: WebSocketDialect(window_bits=bits, compress_from_bytes=minimum)
                ),
                sse=SseDialect(several),
                sse_several=several,
            ),
            websocket=WebSocketOptions(node.engine, node.heartbeats, settings.max_message_bytes),
            tally=node.tally,
            deadlines=node.deadlines,
            clock=node.clock,
            base_path=settings.base_path.encode(),
            max_head_bytes=settings.max_head_bytes,
            max_subscriptions=settings.max_subscriptions,
            handshake_timeout_seconds=settings.handshake_timeout_seconds,
            deflate=minimum > 0,
        )

    def _http_deps(self) -> HttpDeps:
        node, settings = self._node, self._node.settings
        metrics = Metrics(
            CollectorRegistry(), HubCollector(node.tally, node.gauges, self._lag, version=VERSION)
        )
        poll = PollTransport(
            engine=node.engine, dialect=PollDialect(), deadlines=node.deadlines, clock=node.clock
        )
        return HttpDeps(
            engine=node,
            policy=node.policy,
            poll=poll.poll,
            ready=node.ready,
            metrics=metrics.render,
            tally=node.tally,
            log=node.log,
            version=VERSION,
            pages=_PAGES,
            client=_PAGES / "client",
            dashboard=dashboard.DIRECTORY,
            base_path=settings.base_path,
            limits=HttpLimits(
                max_message_bytes=settings.max_message_bytes,
                max_body_bytes=settings.max_body_bytes,
                max_batch_items=settings.max_batch_items,
                max_poll_wait_seconds=settings.poll_max_wait_seconds,
            ),
            fallback=self._app,
        )
