"""The one port: a listening socket, whose every connection is the hub's own, and who may end it.

`::` is every address, IPv4 and IPv6, whatever the system's default for such sockets is; where the
kernel has no IPv6 it is every IPv4 address. `0.0.0.0` is IPv4 alone. A name is looked up, and where
it has addresses of both families, as `localhost` mostly does, the one of IPv4 is taken.
"""

import asyncio
import errno
import socket
from collections.abc import Coroutine

from hub.errors import SettingsError
from hub.node.node import Node
from hub.node.transports import connection_context
from hub.observe.log_levels import HTTP
from hub.observe.loop_lag import LoopLag
from hub.transports.asgi_types import ASGIApp
from hub.transports.connection.application import Application, Lifespan
from hub.transports.connection.connection import Connection

EVERY_ADDRESS = "::"
_EVERY_IPV4 = "0.0.0.0"
# No IPv6 in the kernel, or none that is switched on.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
# Of HTTP requests under way when the listener stops; sessions are gone by then.
_GRACEFUL_SECONDS = 2.0
_STEP_SECONDS = 0.02


class Listener:
    """Listens from `start` to `stop`.

    `app` is the application that answers what the hub does not.
    """

    def __init__(self, node: Node, lag: LoopLag, app: ASGIApp | None) -> None:
        self._node = node
        self._lag = lag
        self._app = app
        self._lifespan = None if app is None else Lifespan(app)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        """Where the hub answers, without a slash at its end; set by `start`."""

    async def start(self) -> None:
        """Bind and listen; raise `SettingsError` where that cannot be done."""
        settings = self._node.settings
        bound = bind(settings.host, settings.port, settings.backlog)
        # Inherited by every connection: what the kernel holds unsent is stale before it is sent.
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            lowat = settings.socket_notsent_bytes
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, lowat)
        port = bound.getsockname()[1]
        self.url = url_of(settings.host, port, settings.base_path)
        try:
            await self._start_application()
        except BaseException:
            bound.close()
            raise
        context = connection_context(
            self._node, self._lag, self._spawn, app=self._app, beside=self._beside(port)
        )
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(context), sock=bound, backlog=settings.backlog
        )

    async def stop(self) -> None:
        """Close the listener, and end what is left of HTTP requests.

        A connection that has asked for nothing yet, as browsers keep some, is not waited for.
        """
        if self._server is None:
            return
        self._server.close()
        http = self._node.sockets.http
        for connection in tuple(http):
            connection.shut_down()
        loop = asyncio.get_running_loop()
        end = loop.time() + _GRACEFUL_SECONDS
        while (http or self._tasks) and loop.time() < end:  # noqa: ASYNC110 - runs once
            await asyncio.sleep(_STEP_SECONDS)
        for connection in tuple(http):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lifespan is not None and (why := await self._lifespan.stop()) is not None:
            self._node.log.error("application_did_not_stop", subsystem=HTTP, reason=why)

    async def _start_application(self) -> None:
        if self._lifespan is not None and (why := await self._lifespan.start()) is not None:
            raise SettingsError(f"the application did not start: {why}")
        if self._lifespan is not None and self._lifespan.absent is not None:
            self._node.log.info(
                "application_without_lifespan", subsystem=HTTP, raised=self._lifespan.absent
            )

    def _beside(self, port: int) -> Application | None:
        if self._app is None or self._lifespan is None:
            return None
        return Application(
            self._app,
            server=(self._node.settings.host, port),
            state=self._lifespan.state,
            log=self._node.log.bind(subsystem=HTTP),
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def bind(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket that does not block; a `SettingsError` says what is in the way."""
    try:
        return _listening(host, port, backlog)
    except OSError as error:
        if host != EVERY_ADDRESS or error.errno not in _NO_IPV6:
            raise SettingsError(_in_the_way(error, host, port)) from error
    try:
        return _listening(_EVERY_IPV4, port, backlog)
    except OSError as error:
        raise SettingsError(_in_the_way(error, host, port)) from error


def url_of(host: str, port: int, path: str = "") -> str:
    """`http://host:port/path`, with the brackets that an IPv6 address has in one."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _listening(host: str, port: int, backlog: int) -> socket.socket:
    family, address = _resolved(host, port)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != EVERY_ADDRESS)
        bound.bind(address)
        bound.listen(backlog)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _in_the_way(error: OSError, host: str, port: int) -> str:
    reason = error.strerror or str(error)
    if isinstance(error, socket.gaierror) or error.errno in _NO_IPV6:
        return (
            f"HUB_HOST is {host}: cannot listen there ({reason}); "
            "allowed: an address of this machine, such as 127.0.0.1, 0.0.0.0 for all of IPv4, "
            "or :: for all"
        )
    return (
        f"HUB_PORT is {port} on HUB_HOST {host}: cannot listen there ({reason}); "
        "allowed: a free port, or 0 for any free one"
    )
