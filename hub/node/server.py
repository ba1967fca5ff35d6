"""The one port: a listening socket, each connection of which is the hub's own, and its end.

A worker has several: its own, and those of workers that take no connections now, at which it
accepts as its supervisor says (`hub.node.supervisor.roles`). A connection is accepted plainly,
with TLS, or behind a PROXY header.
"""

import asyncio
import socket
from collections.abc import Collection, Coroutine, Sequence
from typing import Protocol

from hub.errors import HubError, SettingsError
from hub.node.binding import bind, url_of
from hub.node.file_watch import Certificate
from hub.node.node import Node
from hub.node.transports import connection_context
from hub.observe.background import wait_while
from hub.observe.log_levels import HTTP
from hub.transports.asgi_types import ASGIApp
from hub.transports.connection.application import Application, Lifespan
from hub.transports.connection.connection import Connection
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.proxied import ProxiedListener

# Of HTTP requests under way when the listener stops; sessions are gone by then.
_GRACEFUL_SECONDS = 2.0
# From the end of accepting until the last accepted peer has sent its first request, and its stream
# is open: those of 10,000 take 3 s of the loop. On a busy machine 2,000 peers took more than one.
_FIRST_REQUEST_SECONDS = 5.0
# From the application's answer about a peer until its stream is open.
_OPENED_SECONDS = 0.5
_STEP_SECONDS = 0.02
# Until a worker tries again to accept at a socket where it could not. Guess, not measured.
_AGAIN_SECONDS = 1.0


class Accepting(Protocol):
    """Connections are accepted until it is closed."""

    def close(self) -> None:
        """Accept no more. Connections that stand go on."""
        ...


class Acceptor:
    """Makes the connections of a node's listening sockets.

    Args:
        certificate: of the hub's own TLS; None without it.
    """

    def __init__(
        self, node: Node, context: ConnectionContext, certificate: Certificate | None
    ) -> None:
        self._node = node
        self._context = context
        self._tls = None if certificate is None else certificate.context
        self._handshakes: list[asyncio.Task[None]] = []
        """One task for each listener of PROXY headers or TLS; it ends with its last handshake."""

    def awaits_first_requests(self) -> bool:
        """Return whether a connection that was accepted has sent no request yet or only a part of
        its head, or waits for its turn to open a stream."""
        if len(self._context.turns.crowd) > 0 or any(not each.done() for each in self._handshakes):
            return True
        return any(connection.phase.awaits_head for connection in self._context.sockets.http)

    def awaits_admissions(self) -> bool:
        """Return whether somebody else is being asked about a peer, or a stream is to be opened."""
        return self._context.dispatcher.admitting > 0 or len(self._context.turns.crowd) > 0

    async def accept(self, listening: socket.socket) -> Accepting:
        """Begin to accept at `listening`; closing the returned server closes it."""
        settings, context = self._node.settings, self._context
        if settings.proxy_protocol or self._tls is not None:
            proxied = ProxiedListener(
                listening,
                lambda address: Connection(context, address),
                proxies=self._node.proxies,
                headed=settings.proxy_protocol,
                tls=self._tls,
                timeout_seconds=settings.handshake_timeout_seconds,
                close_timeout_seconds=settings.close_timeout_seconds,
                max_connections=settings.max_connections,
                held=context.sockets.count,
                limiter=self._node.core.limiter,
                refused=self._refused,
                turns=context.turns,
            )
            running = context.spawn(proxied.run())
            self._handshakes.append(running)
            return _Running(proxied)
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(context), sock=listening, backlog=settings.backlog
        )

    def _refused(self, address: str, error: HubError, refusal: str) -> None:
        self._node.counters.refused[error.code] += 1
        if refusal:
            self._node.counters.refusals[refusal] += 1
        self._node.refusals.refused(
            error.code, address=address, reason=error.message, refusal=refusal
        )


class _Running:
    """A listener that accepts in a task."""

    def __init__(self, listener: ProxiedListener) -> None:
        self._listener = listener

    def close(self) -> None:
        # A peer whose handshake is under way is still served: the listener waits for its tasks.
        self._listener.stop()


class Listener:
    """Listens from `start` to `stop`.

    Args:
        app: the application that answers paths which the hub does not.
        inherited: sockets that listen already; none of them is accepted at before `accept_at`.
    """

    def __init__(
        self,
        node: Node,
        app: ASGIApp | None,
        inherited: Sequence[socket.socket] = (),
    ) -> None:
        self._node = node
        self._app = app
        self._lifespan = None if app is None else Lifespan(app)
        self._sockets = list(inherited)
        self._inherits = bool(inherited)
        self._has_stopped = False
        self._places: frozenset[int] = frozenset()
        """Places of the sockets where it is to accept."""
        self._changing = asyncio.Lock()
        self._servers: dict[int, Accepting] = {}
        """Listeners by the place of their socket."""
        self._acceptor: Acceptor | None = None
        self._watching: asyncio.Task[None] | None = None
        """Looks for a new certificate."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        """The hub's URL, without a slash at its end; set by `start`."""

    async def start(self) -> None:
        """Bind and listen; raise `SettingsError` where that cannot be done."""
        settings = self._node.settings
        if not self._inherits:
            self._sockets = [bind(settings.host, settings.port, settings.backlog)]
        # Inherited by every connection: what the kernel holds unsent is stale before it is sent.
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            lowat = settings.socket_notsent_bytes
            for bound in self._sockets:
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, lowat)
        port = self._sockets[0].getsockname()[1]
        self.url = url_of(settings.host, port, settings.base_path, tls=bool(settings.tls_cert))
        try:
            certificate = await self._certificate()
            await self._start_application()
        except BaseException:
            self._close_sockets()
            raise
        context = connection_context(
            self._node, self._spawn, app=self._app, beside=self._beside(port)
        )
        self._acceptor = Acceptor(self._node, context, certificate)
        if not self._inherits:
            await self.accept_at({0})

    async def accept_at(self, places: Collection[int]) -> None:
        """Accept at these of the sockets and at no others, which go on to listen.

        It does nothing once the server has stopped accepting. A worker that cannot accept, such as
        one without a free descriptor, tries again.
        """
        self._places = frozenset(() if self._has_stopped else places)
        async with self._changing:
            try:
                await self._accept_there()
            except OSError as error:
                if not self._inherits:
                    raise
                self._node.log.warning("cannot_accept", subsystem=HTTP, reason=str(error))
                loop = asyncio.get_running_loop()
                loop.call_later(_AGAIN_SECONDS, lambda: self._spawn(self.accept_at(self._places)))

    async def _accept_there(self) -> None:
        for place in set(self._servers) - self._places:
            self._servers.pop(place).close()
        acceptor = self._acceptor
        assert acceptor is not None  # noqa: S101 - set by `start`
        for place in self._places - set(self._servers):
            self._servers[place] = await acceptor.accept(self._sockets[place].dup())

    async def _certificate(self) -> Certificate | None:
        """Return the certificate of the hub's own TLS; None without TLS."""
        settings = self._node.settings
        if not settings.tls_cert:
            return None
        log = self._node.log.bind(subsystem=HTTP)
        certificate = await asyncio.to_thread(Certificate, settings.tls_cert, settings.tls_key, log)
        self._watching = asyncio.get_running_loop().create_task(certificate.run())
        return certificate

    async def stop_accepting(self) -> None:
        """Stop to accept, and close the sockets; connections stay."""
        self._has_stopped = True
        await self.accept_at(())
        self._close_sockets()

    async def first_requests(self) -> None:
        """Wait until accepted connections have sent their first request and their streams are open.

        Called after `stop_accepting` and before a drain: a peer that was accepted at the last
        moment has its session and the goodbye, and not a refusal. A peer that sends nothing delays
        the drain for five seconds at most, and an application that is asked about peers for as long
        as it may take.
        """
        acceptor, settings = self._acceptor, self._node.settings
        assert acceptor is not None  # noqa: S101 - set by `start`
        await wait_while(
            acceptor.awaits_first_requests, _FIRST_REQUEST_SECONDS, step_seconds=_STEP_SECONDS
        )
        # Tasks that have just been made have their first step, and are counted from then on.
        await asyncio.sleep(0)
        seconds = settings.hook_timeout_seconds + _OPENED_SECONDS
        await wait_while(acceptor.awaits_admissions, seconds, step_seconds=_STEP_SECONDS)

    async def stop_asking(self, seconds: float) -> None:
        """End HTTP connections with their next answer; wait for that, so many seconds at most.

        One that is ended between two requests may meet a request that is on its way.
        """
        http = self._node.sockets.http
        for connection in tuple(http):
            connection.leave_after_next()
        await wait_while(lambda: bool(http), seconds, step_seconds=_STEP_SECONDS)

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()

    async def stop(self) -> None:
        """Close the listener, and end the HTTP requests that are left.

        A connection without a request yet, as browsers keep some, is not waited for.
        """
        if self._acceptor is None:
            return
        if self._watching is not None:
            self._watching.cancel()
        await self.stop_accepting()
        http = self._node.sockets.http
        for connection in tuple(http):
            connection.shut_down()
        await wait_while(
            lambda: bool(http or self._tasks), _GRACEFUL_SECONDS, step_seconds=_STEP_SECONDS
        )
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
            scheme="https" if self._node.settings.tls_cert else "http",
            log=self._node.log.bind(subsystem=HTTP),
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
