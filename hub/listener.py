"""The one port: uvicorn's server with our front door, and who may end it."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from hub.errors import SettingsError
from hub.node import Node
from hub.observe.loop_lag import LoopLag
from hub.transports.http.app import make_http_app
from hub.transports.http_protocol import http_protocol_factory
from hub.wiring import door_options, http_deps

# Of HTTP requests under way when the server stops; sessions are gone by then.
_GRACEFUL_SECONDS = 2
_KEEP_ALIVE_SECONDS = 65
"""Longer than the idle time-outs of common load balancers (60 s), which must end it first."""


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handlers: signals are the hub's (DESIGN.md 4).

    And without its end of the process: a hub may be a part of somebody's program.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # The application could not start and uvicorn has logged why; `serve` returns.
            self.should_exit = True


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
        raise SettingsError(_in_the_way(error, host, port)) from error
    return bound


def _in_the_way(error: OSError, host: str, port: int) -> str:
    reason = error.strerror or str(error)
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"HUB_HOST is {host}: cannot listen there ({reason}); "
            "allowed: an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
        )
    return (
        f"HUB_PORT is {port} on HUB_HOST {host}: cannot listen there ({reason}); "
        "allowed: a free port, or 0 for any free one"
    )


class Listener:
    """Listens from `start` to `stop`.

    `app` is the application that answers what the hub does not.
    """

    def __init__(self, node: Node, lag: LoopLag, app: ASGIApp | None) -> None:
        self._node = node
        self._lag = lag
        self._app = app
        self._door = door_options(node)
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
                bound.close()
                self._serving.result()
                raise SettingsError("the application did not start")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Close the listener and what is left of HTTP requests.

        A connection that has asked for nothing yet, as browsers keep some, is not waited for.
        """
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            for door in tuple(self._door.waiting):
                door.abort()
            await self._serving

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            make_http_app(http_deps(self._node, self._lag, self._app)),
            # uvicorn calls whatever class it is given; ours makes a front door.
            http=http_protocol_factory(self._door),  # type: ignore[arg-type]
            ws="none",
            lifespan="off" if self._app is None else "on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        )
