"""Connections that begin with a PROXY protocol header.

The header stands before everything, TLS included, and no transport can be handed bytes that were
read already. So it is taken from the socket before there is a transport: what is looked at stays
in the kernel (`MSG_PEEK`), and no byte behind the header is read.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from hub.auth.proxies import TrustedProxies
from hub.errors import BadRequestError
from hub.transports.connection import proxy_protocol

# No descriptor or memory for another connection: wait for some to end.
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS = 1.0

Make = Callable[[str | None], asyncio.Protocol]
"""The protocol of a connection, by the client's address; None for the socket's own."""


class ProxiedListener:
    """Accepts from `run` until that is cancelled.

    Args:
        listening: does not block.
        trusted: whose connections begin with a header; every peer's where it names none.
        timeout_seconds: from the connection to the end of its header, and for the TLS handshake.
        max_waiting: connections whose header or TLS handshake is not whole; more are closed.
        refused: is told of a peer whose header cannot be read.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Make,
        *,
        trusted: TrustedProxies,
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
        max_waiting: int,
        refused: Callable[[str, BadRequestError], None],
    ) -> None:
        self._listening = listening
        self._make = make
        self._trusted = trusted
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._max_waiting = max_waiting
        self._refused = refused
        self.waiting = 0
        """Connections whose header or TLS handshake is not whole: no node counts them yet."""

    async def run(self) -> None:
        """Accept connections; the listening socket is closed at the end."""
        with self._listening:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    if (found := await self._accept()) is None:
                        continue
                    accepted, peer = found
                    if self.waiting >= self._max_waiting:
                        accepted.close()
                        continue
                    self.waiting += 1
                    begun = tasks.create_task(self._begin(accepted, plain_address(peer)))
                    begun.add_done_callback(self._done)

    async def _accept(self) -> tuple[socket.socket, object] | None:
        """The next connection; None for one that has gone, or where there is no room for any."""
        try:
            return await asyncio.get_running_loop().sock_accept(self._listening)
        except OSError as error:
            await asyncio.sleep(_PAUSE_SECONDS if error.errno in _FULL else 0)
            return None

    def _done(self, _: "asyncio.Task[None]") -> None:
        self.waiting -= 1

    async def _begin(self, accepted: socket.socket, peer: str) -> None:
        try:
            address = None
            if not self._trusted or self._trusted.trusts(peer):
                async with asyncio.timeout(self._timeout_seconds):
                    address = await _read_header(accepted)
        except BadRequestError as error:
            self._refused(peer, error)
            accepted.close()
            return
        except (OSError, TimeoutError):
            accepted.close()
            return
        except BaseException:
            accepted.close()
            raise
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(address),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._timeout_seconds,
            )


async def _read_header(accepted: socket.socket) -> str | None:
    """Read the header and nothing behind it; return the client's address, None without one."""
    read = b""
    while True:
        await _readable(accepted)
        waiting = accepted.recv(proxy_protocol.MAX_BYTES, socket.MSG_PEEK)
        if not waiting:
            raise ConnectionResetError(errno.ECONNRESET, "closed before its header")
        told = proxy_protocol.read(read + waiting)
        # A header that is not whole has all that waits for itself.
        own = len(waiting) if told is None else len(waiting) - len(told.rest)
        read += accepted.recv(own)
        if told is not None:
            return told.address


async def _readable(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(accepted.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(accepted.fileno())


def plain_address(peer: object) -> str:
    """The peer's address without its port; an IPv4 peer of a socket for both looks like one."""
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return address.removeprefix("::ffff:") if "." in address else address
