"""Connections that begin with a PROXY protocol header, or with a TLS handshake.

Both come before there is anything that a node counts, so they are counted and bounded here.

The header stands before everything, TLS included, and no transport can be handed bytes that were
read already. So it is taken from the socket before there is a transport: what is looked at stays
in the kernel (`MSG_PEEK`), and no byte behind the header is read.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counts
from hub.core.limits import Limiter, party
from hub.errors import BadRequestError, HubError, RateLimitedError, UnavailableError
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
        proxies: whose connections begin with a header, every peer's where it names none.
        headed: whether connections begin with a header at all.
        timeout_seconds: from the connection to the end of its header, and for the TLS handshake.
        max_waiting: connections whose header or TLS handshake is not whole; more are closed.
        limiter: bounds these by address or /64 of IPv6. Trusted proxies do not count, and behind a
            header its client does.
        refused: is told of a peer that is closed, why, and what `hub_refusals_total` calls that.
    """

    def __init__(  # noqa: PLR0913 - what bounds a connection that nobody else counts yet
        self,
        listening: socket.socket,
        make: Make,
        *,
        proxies: TrustedProxies,
        headed: bool,
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
        max_waiting: int,
        limiter: Limiter,
        refused: Callable[[str, HubError, str], None],
    ) -> None:
        self._listening = listening
        self._make = make
        self._proxies = proxies
        self._headed = headed
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._max_waiting = max_waiting
        self._limiter = limiter
        self._by_party = Counts()
        self._refused = refused
        self.waiting = 0
        """Connections whose header or TLS handshake is not whole: no node counts them yet."""
        self._stopped = False
        self._accepting: asyncio.Future[tuple[socket.socket, object]] | None = None

    async def run(self) -> None:
        """Accept connections; the listening socket is closed at the end."""
        async with asyncio.TaskGroup() as tasks:
            with self._listening:
                while not self._stopped:
                    if (found := await self._accept()) is not None:
                        self._take(tasks, *found)

    def stop(self) -> None:
        """Accept no more; `run` ends when those that were accepted have begun."""
        self._stopped = True
        if self._accepting is not None:
            self._accepting.cancel()

    def _take(self, tasks: asyncio.TaskGroup, accepted: socket.socket, peer: object) -> None:
        address = plain_address(peer)
        headed = self._headed and (not self._proxies or self._proxies.trusts(address))
        try:
            self._check_room()
            # Of one that speaks for others nobody knows yet whom it counts for.
            one = "" if headed else self._count(address)
        except (UnavailableError, RateLimitedError) as error:
            self._refused(address, error, error.refusal)
            accepted.close()
            return
        self.waiting += 1
        begun = (
            self._begin_headed(accepted, address)
            if headed
            else self._begin(accepted, address, None)
        )
        tasks.create_task(begun).add_done_callback(lambda _: self._done(one))

    def _check_room(self) -> None:
        if self.waiting >= self._max_waiting:
            raise UnavailableError("the node holds no more connections")

    def _count(self, address: str) -> str:
        """Whom the connection counts for, "" where nobody; raise `RateLimitedError`."""
        if not self._limiter.counts_addresses or self._proxies.trusts(address):
            return ""
        one = party(address)
        self._limiter.check_address(self._by_party[one], address)
        self._by_party[one] += 1
        return one

    async def _accept(self) -> tuple[socket.socket, object] | None:
        """The next connection; None for one that has gone, or where there is no room for any."""
        loop = asyncio.get_running_loop()
        self._accepting = asyncio.ensure_future(loop.sock_accept(self._listening))
        try:
            return await self._accepting
        except OSError as error:
            await asyncio.sleep(_PAUSE_SECONDS if error.errno in _FULL else 0)
            return None
        except asyncio.CancelledError:
            if self._stopped:
                return None
            raise

    def _done(self, one: str) -> None:
        self.waiting -= 1
        self._discount(one)

    def _discount(self, one: str) -> None:
        if one:
            self._by_party[one] -= 1
            if not self._by_party[one]:
                del self._by_party[one]

    async def _begin_headed(self, accepted: socket.socket, peer: str) -> None:
        client = peer
        try:
            async with asyncio.timeout(self._timeout_seconds):
                address = await _read_header(accepted)
            client = address or peer
            one = self._count(client)
        except (BadRequestError, RateLimitedError) as error:
            refusal = "proxy_header" if isinstance(error, BadRequestError) else error.refusal
            self._refused(client, error, refusal)
            accepted.close()
            return
        except (OSError, TimeoutError):
            accepted.close()
            return
        except BaseException:
            accepted.close()
            raise
        try:
            await self._begin(accepted, client, address)
        finally:
            self._discount(one)

    async def _begin(self, accepted: socket.socket, client: str, address: str | None) -> None:
        """Have the connection made; `address` is its client's where a header told it."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(address),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._timeout_seconds,
            )
        except ssl.SSLError as error:
            # An error that OpenSSL did not raise has no reason.
            reason = str(getattr(error, "reason", None) or "no reason").lower().replace("_", " ")
            why = BadRequestError(f"the TLS handshake failed: {reason}")
            self._refused(client, why, "tls_handshake")
        except OSError:
            # It has gone, or took too long: nothing was said wrong.
            pass


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
