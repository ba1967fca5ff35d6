"""Connections that begin with a PROXY protocol header, or with a TLS handshake.

A node counts a connection when it is made, which is after both. So they are counted and bounded
here until then.

The header stands before everything, TLS included, and a transport takes no bytes that were read
already. So the header is read from the socket before there is a transport: bytes that are looked at
stay in the kernel (`MSG_PEEK`), and no byte behind the header is read.
"""

import asyncio
import errno
import random
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counts
from hub.core.limits import Limiter, party
from hub.errors import (
    BadRequestError,
    HubError,
    RateLimitedError,
    RequestTimeoutError,
    UnavailableError,
)
from hub.transports.connection import proxy_protocol
from hub.transports.connection.sockets import RESERVE
from hub.transports.connection.tls import TlsAcceptor
from hub.transports.turns import Turns

# No descriptor or memory for another connection: wait for some to end.
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS = 1.0
# Connections that came in one burst must not be late in one: each has up to a tenth more time.
_JITTER = 0.1

Make = Callable[[str | None], asyncio.Protocol]
"""The protocol of a connection, by the client's address; None for the socket's own."""


class ProxiedListener:
    """Accepts from `run` until that is cancelled.

    Args:
        listening: does not block.
        proxies: their connections begin with a header; those of every peer where it names none.
        headed: whether connections begin with a header at all.
        timeout_seconds: from the connection to the end of its header, and for the TLS handshake.
        close_timeout_seconds: see `TlsAcceptor`.
        max_connections: of the node. At most so many may have a header or a TLS handshake that is
            not whole. Together with the connections that the node counts there may be `RESERVE`
            more, which are told why they are refused. All others are closed.
        held: returns the number of connections that the node counts.
        limiter: bounds these by address or /64 of IPv6. Trusted proxies do not count; the client
            that a header names does.
        refused: called for a peer that is closed, with its address, the error and the name of the
            refusal in `hub_refusals_total`.
        turns: peers that are late are ended in turns of its crowd.
    """

    def __init__(  # noqa: PLR0913 - the bounds of a connection that no node counts yet
        self,
        listening: socket.socket,
        make: Make,
        *,
        proxies: TrustedProxies,
        headed: bool,
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
        close_timeout_seconds: float,
        max_connections: int,
        held: Callable[[], int],
        limiter: Limiter,
        refused: Callable[[str, HubError, str], None],
        turns: Turns,
    ) -> None:
        self._listening = listening
        self._make = make
        self._proxies = proxies
        self._headed = headed
        self._tls = (
            None
            if tls is None
            else TlsAcceptor(tls, turns, close_timeout_seconds=close_timeout_seconds)
        )
        self._timeout_seconds = timeout_seconds
        self._max_connections = max_connections
        self._held = held
        self._limiter = limiter
        self._by_party = Counts()
        self._refused = refused
        self._lane = turns.crowd
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
                        self._try_to_take(tasks, *found)

    def stop(self) -> None:
        """Accept no more; `run` ends when the accepted connections have begun."""
        self._stopped = True
        if self._accepting is not None:
            self._accepting.cancel()

    def _try_to_take(self, tasks: asyncio.TaskGroup, accepted: socket.socket, peer: object) -> None:
        try:
            self._take(tasks, accepted, peer)
        except Exception as error:  # noqa: BLE001 - the border: the listener outlives any connection
            _fail(accepted, error)

    def _take(self, tasks: asyncio.TaskGroup, accepted: socket.socket, peer: object) -> None:
        address = plain_address(peer)
        headed = self._headed and (not self._proxies or self._proxies.trusts(address))
        try:
            self._check_room(address)
            # The client of a connection with a header is known later.
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
        task = tasks.create_task(_contained(begun, accepted))
        task.add_done_callback(lambda _: self._done(one))

    def _check_room(self, address: str) -> None:
        most, waiting = self._max_connections, self.waiting
        if waiting >= most or waiting + self._held() >= most + RESERVE:
            raise self._limiter.full(address, "the node holds no more connections")

    def _count(self, address: str) -> str:
        """Count the connection; return its party, "" for none. Raises `RateLimitedError`."""
        if not self._limiter.counts_addresses or self._proxies.trusts(address):
            return ""
        one = party(address)
        self._limiter.check_address(self._by_party[one], address)
        self._by_party[one] += 1
        return one

    async def _accept(self) -> tuple[socket.socket, object] | None:
        """Return the next connection; None for one that has gone, or where there is no room."""
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
            async with asyncio.timeout(self._longest_wait()):
                address = await _read_header(accepted)
            client = address or peer
            one = self._count(client)
        except (BadRequestError, RateLimitedError) as error:
            refusal = "proxy_header" if isinstance(error, BadRequestError) else error.refusal
            self._refused(client, error, refusal)
            accepted.close()
            return
        except TimeoutError:
            self._lane.do(lambda: self._end_late(accepted, client), client)
            return
        except OSError:
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
        """Make the connection; `address` is its client's where a header named it."""
        try:
            await self._make_connection(accepted, client, address)
        except ssl.SSLError as error:
            # An error that OpenSSL did not raise has no reason.
            reason = str(getattr(error, "reason", None) or "no reason").lower().replace("_", " ")
            why = BadRequestError(f"the TLS handshake failed: {reason}")
            self._refused(client, why, "tls_handshake")
        except (ConnectionAbortedError, TimeoutError):
            # The error of asyncio and uvloop for a handshake that takes too long.
            late = self._late("TLS handshake")
            self._lane.do(lambda: self._refused(client, late, "tls_handshake"), client)
        except OSError:
            # The peer has gone: it has broken no rule.
            pass

    async def _make_connection(
        self, accepted: socket.socket, client: str, address: str | None
    ) -> None:
        if self._tls is None:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._make(address), accepted)
            return
        # Connections of a proxy are those of many clients: each has turns of its own.
        many = not client or self._proxies.trusts(client)
        place = f"{client} {accepted.fileno()}" if many else client
        seconds = self._longest_wait()
        await self._tls.begin(
            accepted, lambda: self._make(address), place=place, timeout_seconds=seconds
        )

    def _end_late(self, accepted: socket.socket, client: str) -> None:
        self._refused(client, self._late("PROXY protocol header"), "proxy_header")
        accepted.close()

    def _longest_wait(self) -> float:
        return self._timeout_seconds * random.uniform(1, 1 + _JITTER)

    def _late(self, what: str) -> RequestTimeoutError:
        return RequestTimeoutError(f"no whole {what} within {self._timeout_seconds:g} seconds")


async def _contained(begun: Coroutine[Any, Any, None], accepted: socket.socket) -> None:
    """Have a connection begin; a fault of the hub's own ends it, and not the listener."""
    try:
        await begun
    except Exception as error:  # noqa: BLE001 - the border, as above
        _fail(accepted, error)


def _fail(accepted: socket.socket, error: Exception) -> None:
    accepted.close()
    what = {"message": "a connection could not begin", "exception": error}
    asyncio.get_running_loop().call_exception_handler(what)


async def _read_header(accepted: socket.socket) -> str | None:
    """Read the header and nothing behind it; return the client's address, None without one."""
    read = b""
    while True:
        await _readable(accepted)
        waiting = accepted.recv(proxy_protocol.MAX_BYTES, socket.MSG_PEEK)
        if not waiting:
            raise ConnectionResetError(errno.ECONNRESET, "closed before its header")
        header = proxy_protocol.read(read + waiting)
        # All bytes that wait belong to a header that is not whole.
        own = len(waiting) if header is None else len(waiting) - len(header.rest)
        read += accepted.recv(own)
        if header is not None:
            return header.address


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
    """Return the peer's address without its port; an IPv4 address in IPv6 form as plain IPv4."""
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return address.removeprefix("::ffff:") if "." in address else address
