"""How connections are accepted at a listening socket: plainly, with TLS, behind a PROXY header."""

import asyncio
import socket
from typing import Protocol

from hub.errors import BadRequestError
from hub.node.node import Node
from hub.node.tls import Certificate
from hub.transports.connection.connection import Connection
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.proxied import ProxiedListener


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

    async def accept(self, listening: socket.socket) -> Accepting:
        """Begin to accept at `listening`, which is closed with what is returned."""
        settings, context = self._node.settings, self._context
        if settings.proxy_protocol or self._tls is not None:
            proxied = ProxiedListener(
                listening,
                lambda address: Connection(context, address),
                proxies=self._node.proxies,
                headed=settings.proxy_protocol,
                tls=self._tls,
                timeout_seconds=settings.handshake_timeout_seconds,
                max_waiting=settings.max_connections,
                max_of_one=settings.address_connections,
                refused=self._refused,
            )
            return _Running(proxied, context.spawn(proxied.run()))
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(context), sock=listening, backlog=settings.backlog
        )

    def _refused(self, address: str, error: BadRequestError) -> None:
        self._node.counters.refused[error.code] += 1
        self._node.refusals.refused(error.code, address=address, reason=error.message)


class _Running:
    """A task that accepts."""

    def __init__(self, listener: ProxiedListener, task: "asyncio.Task[None]") -> None:
        self._listener = listener
        self._task = task

    def close(self) -> None:
        # Whose handshake is under way is served still: the listener waits for its tasks.
        self._listener.stop()
