"""Connections with a PROXY header or a TLS handshake, on sockets and a loop that only note."""

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counters
from hub.core.limits import Limiter, PeerLimits
from hub.errors import HubError
from hub.transports.connection import proxied, proxy_protocol
from hub.transports.connection.proxied import ProxiedListener
from hub.transports.connection.sockets import RESERVE
from hub.transports.turns import TURN_SECONDS, Turns
from tests.core.fakes import FakeClock

PROXY = "10.0.0.7"
HEADER = b"PROXY TCP4 203.0.113.9 10.0.0.7 51234 8000\r\n"
NOTING_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class FakeSocket:
    """An accepted socket: `kernel` is what has come and was not read."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.kernel = b""
        self.ended = self.closed = False
        self.readable: Callable[[], None] | None = None

    def fileno(self) -> int:
        return self.number

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = self.kernel[:size]
        if not flags & socket.MSG_PEEK:
            self.kernel = self.kernel[size:]
        return data

    def close(self) -> None:
        self.closed = True


class Listening:
    """A listening socket that nobody connects to: the rig says who comes."""

    closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Rig:
    """A listener, and the calls of the loop that it makes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(loop, "sock_accept", self._accept)
        patch.setattr(loop, "add_reader", self._add_reader)
        patch.setattr(loop, "remove_reader", self._remove_reader)
        patch.setattr(loop, "connect_accepted_socket", self._connect)
        self._later_seconds = 0.0
        now = loop.time
        patch.setattr(loop, "time", lambda: now() + self._later_seconds)
        patch.setattr(proxied, "TlsAcceptor", lambda context, *_, **__: FakeTls(self, context))
        patch.setattr(proxied, "_PAUSE_SECONDS", 0)
        self.clock = FakeClock()
        self._coming: deque[tuple[FakeSocket, object] | OSError] = deque()
        self._came = asyncio.Event()
        self._sockets: dict[int, FakeSocket] = {}
        self.listening = Listening()
        self.made: list[str | None] = []
        """The client's address that each connection was made with."""
        self.handed_over: list[tuple[FakeSocket, ssl.SSLContext | None]] = []
        self.refused: list[tuple[str, str, str]] = []
        """Address, code, and the name of the refusal."""
        self.handshake = asyncio.Event()
        """Set while handshakes end at once."""
        self.handshake.set()
        self.handshake_fails: Exception | None = None
        self.held = 0
        """The number of connections that the node counts."""

    def listen(
        self,
        *,
        headed: bool = True,
        proxies: str = "",
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = 60,
        max_waiting: int = 100,
        each_address: int = 0,
    ) -> ProxiedListener:
        limits = PeerLimits(address_connections=each_address)
        self.listener = ProxiedListener(
            self.listening,  # type: ignore[arg-type]
            lambda address: self._make(address),
            proxies=TrustedProxies(proxies.split()),
            headed=headed,
            tls=tls,
            timeout_seconds=timeout_seconds,
            close_timeout_seconds=5,
            max_connections=max_waiting,
            held=lambda: self.held,
            limiter=Limiter(limits, FakeClock(), Counters()),
            refused=self._refused,
            turns=Turns(self.clock),
        )
        self.task = asyncio.create_task(self.listener.run())
        return self.listener

    def _make(self, address: str | None) -> asyncio.Protocol:
        self.made.append(address)
        return asyncio.Protocol()

    def _refused(self, address: str, error: HubError, refusal: str) -> None:
        self.refused.append((address, error.code, refusal))

    def time_passes(self, seconds: float) -> None:
        """Have all that waits on the loop for up to `seconds` be due at once."""
        self._later_seconds += seconds

    # -- the loop ----------------------------------------------------------------------------

    async def _accept(self, _listening: object) -> tuple[FakeSocket, object]:
        while not self._coming:
            self._came.clear()
            await self._came.wait()
        found = self._coming.popleft()
        if isinstance(found, OSError):
            raise found
        return found

    def _add_reader(self, number: int, readable: Callable[[], None]) -> None:
        accepted = self._sockets[number]
        accepted.readable = readable
        if accepted.kernel or accepted.ended:
            readable()

    def _remove_reader(self, number: int) -> None:
        self._sockets[number].readable = None

    async def _connect(self, make: Callable[[], asyncio.Protocol], accepted: FakeSocket) -> None:
        await self.begin(make, accepted, None)

    async def begin(
        self,
        make: Callable[[], asyncio.Protocol],
        accepted: FakeSocket,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.handed_over.append((accepted, tls))
        await self.handshake.wait()
        if self.handshake_fails is not None:
            raise self.handshake_fails
        make()

    # -- what peers do -----------------------------------------------------------------------

    async def connect(self, peer: str = PROXY, data: bytes = b"") -> FakeSocket:
        accepted = FakeSocket(len(self._sockets) + 1000)
        self._sockets[accepted.number] = accepted
        accepted.kernel = data
        await self.come((accepted, (peer, 4711)))
        return accepted

    async def come(self, found: tuple[FakeSocket, object] | OSError) -> None:
        self._coming.append(found)
        self._came.set()
        await settle()

    async def send(self, accepted: FakeSocket, data: bytes) -> None:
        accepted.kernel += data
        if accepted.readable is not None:
            accepted.readable()
        await settle()

    async def end(self, accepted: FakeSocket) -> None:
        accepted.ended = True
        await self.send(accepted, b"")


class FakeTls:
    """In the place of `hub.transports.connection.tls.TlsAcceptor`."""

    def __init__(self, rig: Rig, context: ssl.SSLContext) -> None:
        self._rig = rig
        self._context = context

    async def begin(
        self,
        accepted: FakeSocket,
        make: Callable[[], asyncio.Protocol],
        *,
        place: str,
        timeout_seconds: float,
    ) -> None:
        assert (bool(place), timeout_seconds > 0) == (True, True)
        await self._rig.begin(make, accepted, self._context)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    rig = Rig(asyncio.get_running_loop(), monkeypatch)
    yield rig
    rig.task.cancel()
    await asyncio.gather(rig.task, return_exceptions=True)
    assert rig.listening.closed


async def test_a_header_names_the_client_and_nothing_behind_it_is_read(rig: Rig) -> None:
    rig.listen()
    accepted = await rig.connect(data=HEADER + b"GET / HTTP/1.1\r\n")
    assert rig.made == ["203.0.113.9"]
    assert accepted.kernel == b"GET / HTTP/1.1\r\n"
    assert (rig.refused, accepted.closed, rig.listener.waiting) == ([], False, 0)


@pytest.mark.parametrize("cut", [1, 7, len(HEADER) - 1])
async def test_a_header_may_come_in_pieces(rig: Rig, cut: int) -> None:
    rig.listen()
    accepted = await rig.connect(data=HEADER[:cut])
    assert (rig.made, rig.listener.waiting) == ([], 1)
    for at in range(cut, len(HEADER)):
        await rig.send(accepted, HEADER[at : at + 1])
    assert (rig.made, accepted.kernel) == (["203.0.113.9"], b"")


async def test_a_proxy_that_speaks_for_itself_has_the_address_of_its_socket(rig: Rig) -> None:
    rig.listen()
    await rig.connect(data=b"PROXY UNKNOWN\r\n")
    assert rig.made == [None]


async def test_only_trusted_proxies_send_a_header_where_some_are_named(rig: Rig) -> None:
    """Else every stranger could name an address of its choice."""
    rig.listen(proxies="10.0.0.0/8")
    stranger = await rig.connect("198.51.100.1", HEADER)
    assert (rig.made, stranger.kernel) == ([None], HEADER)
    await rig.connect(PROXY, HEADER)
    assert rig.made == [None, "203.0.113.9"]


async def test_a_connection_without_a_header_is_closed_and_noted(rig: Rig) -> None:
    rig.listen()
    accepted = await rig.connect(data=b"GET / HTTP/1.1\r\n")
    assert (rig.made, accepted.closed) == ([], True)
    assert rig.refused == [(PROXY, "bad_request", "proxy_header")]


async def test_a_peer_without_a_whole_header_is_noted_when_late_and_not_when_it_leaves(
    rig: Rig,
) -> None:
    """A health check of a load balancer connects, says nothing and goes."""
    rig.listen()
    left = await rig.connect(data=HEADER[:9])
    await rig.end(left)
    assert left.closed
    assert rig.refused == []
    rig.task.cancel()
    await asyncio.gather(rig.task, return_exceptions=True)
    rig.listen(timeout_seconds=0)
    late = await rig.connect(data=b"")
    assert late.closed
    assert rig.refused == [(PROXY, "request_timeout", "proxy_header")]
    assert (rig.made, rig.listener.waiting) == ([], 0)


async def test_proxy_headers_that_are_awaited_are_bounded_in_number(rig: Rig) -> None:
    rig.listen(max_waiting=2)
    first, second = await rig.connect(), await rig.connect()
    third = await rig.connect()
    assert (first.closed, second.closed, third.closed) == (False, False, True)
    assert rig.refused == [(PROXY, "unavailable", "")]
    await rig.send(first, HEADER)
    fourth = await rig.connect()
    assert (fourth.closed, rig.listener.waiting) == (False, 2)


async def test_connections_and_handshakes_have_one_bound_together(rig: Rig) -> None:
    """Each takes a descriptor. A few more than the node may have are told why they are refused."""
    rig.listen(headed=False, tls=NOTING_TLS, max_waiting=1000)
    rig.handshake.clear()
    rig.held = 1000 + RESERVE - 2
    assert [(await rig.connect()).closed for _ in range(3)] == [False, False, True]
    assert rig.refused == [(PROXY, "unavailable", "")]
    rig.held -= 1
    assert not (await rig.connect()).closed


@pytest.mark.parametrize("headed", [True, False])
async def test_an_address_may_have_so_many_handshakes_under_way(rig: Rig, *, headed: bool) -> None:
    """Behind a header the client's address counts, and not that of its proxy."""
    rig.listen(headed=headed, tls=NOTING_TLS, each_address=2)
    rig.handshake.clear()
    peer, data = (PROXY, HEADER) if headed else ("203.0.113.9", b"")
    for _ in range(2):
        await rig.connect(peer, data)
    assert rig.refused == []
    over = await rig.connect(peer, data)
    assert over.closed
    assert rig.refused == [("203.0.113.9", "rate_limited", "")]
    other = await rig.connect(*((PROXY, HEADER.replace(b"113.9", b"113.8")) if headed else ("a",)))
    assert not other.closed
    rig.handshake.set()
    await settle()
    assert rig.listener.waiting == 0
    assert not (await rig.connect(peer, data)).closed


async def test_a_trusted_proxy_has_as_many_handshakes_as_it_likes(rig: Rig) -> None:
    rig.listen(headed=False, tls=NOTING_TLS, proxies="10.0.0.0/8", each_address=1)
    rig.handshake.clear()
    assert [(await rig.connect(PROXY)).closed for _ in range(5)] == [False] * 5


async def test_tls_begins_behind_the_header(rig: Rig) -> None:
    rig.listen(tls=NOTING_TLS)
    accepted = await rig.connect(data=HEADER + b"\x16\x03")
    assert (accepted.kernel, rig.handed_over) == (b"\x16\x03", [(accepted, NOTING_TLS)])


@pytest.mark.parametrize(
    ("fails", "refused"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"), [("bad_request", "tls_handshake")]),
        (ConnectionResetError(), []),
        (ConnectionAbortedError("too long"), [("request_timeout", "tls_handshake")]),
    ],
)
async def test_a_handshake_that_fails_or_is_late_is_noted_and_one_that_is_left_is_not(
    rig: Rig, fails: Exception, refused: list[tuple[str, str]]
) -> None:
    rig.listen(headed=False, tls=NOTING_TLS)
    rig.handshake_fails = fails
    await rig.connect("203.0.113.9")
    assert rig.refused == [("203.0.113.9", *each) for each in refused]
    assert (rig.listener.waiting, rig.task.done()) == (0, False)


@pytest.mark.parametrize("fault", ["make", "handshake", "header", "refused", "counted"])
async def test_a_fault_of_one_connection_ends_that_one_and_is_told_and_others_go_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    told = list[str]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    other = await waiting_for_its_header(rig)
    wrong = ValueError("a fault")
    data = HEADER

    def fails(*_: object) -> None:
        raise wrong

    with monkeypatch.context() as patch:
        match fault:
            case "make":
                patch.setattr(rig, "_make", fails)
            case "handshake":
                rig.handshake_fails = wrong
            case "header":
                patch.setattr(proxy_protocol, "read", fails)
            case "refused":
                patch.setattr(rig.listener, "_refused", fails)
                data = b"GET"
            case _:
                patch.setattr(rig.listener, "_check_room", fails)
        faulty = await rig.connect(data=data)
        rig.handshake_fails = None
    assert (faulty.closed, told, rig.task.done()) == (True, ["a fault"], False)
    await rig.send(other, HEADER)
    await rig.connect(data=HEADER)
    assert rig.made[-2:] == ["203.0.113.9"] * 2
    assert rig.listener.waiting == 0


async def waiting_for_its_header(rig: Rig) -> FakeSocket:
    rig.listen()
    return await rig.connect()


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "no descriptor"), ConnectionAbortedError(errno.ECONNABORTED)]
)
async def test_an_accept_that_fails_is_tried_again(rig: Rig, error: OSError) -> None:
    rig.listen()
    await rig.come(error)
    await rig.connect(data=HEADER)
    assert rig.made == ["203.0.113.9"]


async def test_a_listener_that_stops_lets_those_begin_that_were_accepted(rig: Rig) -> None:
    listener = rig.listen()
    accepted = await rig.connect(data=HEADER[:5])
    listener.stop()
    await settle()
    assert rig.listening.closed
    await rig.connect(data=HEADER)
    assert rig.made == []
    await rig.send(accepted, HEADER[5:])
    assert (rig.made, rig.task.done()) == (["203.0.113.9"], True)


async def test_a_cancelled_listener_closes_those_whose_header_is_awaited(rig: Rig) -> None:
    rig.listen()
    accepted: Any = await rig.connect(data=HEADER[:5])
    rig.task.cancel()
    await asyncio.gather(rig.task, return_exceptions=True)
    assert (accepted.closed, accepted.readable) == (True, None)


@pytest.mark.parametrize("what", ["header", "handshake"])
async def test_thousands_that_are_late_together_are_noted_in_turns(rig: Rig, what: str) -> None:
    """Each takes a log line and a place in a table, and other work goes on meanwhile."""
    count = 40
    if what == "header":
        rig.listen(timeout_seconds=60)
    else:
        rig.listen(headed=False, tls=NOTING_TLS)
        rig.handshake.clear()
        rig.handshake_fails = ConnectionAbortedError()
    refuse = rig._refused

    def slowly(address: str, error: HubError, refusal: str) -> None:
        refuse(address, error, refusal)
        rig.clock.advance(2 * TURN_SECONDS)

    rig.listener._refused = slowly
    accepted = [await rig.connect(f"10.0.0.{number}") for number in range(count)]
    rig.handshake.set()
    rig.time_passes(100)
    most = 0
    while len(rig.refused) < count:
        before = len(rig.refused)
        await asyncio.sleep(0)
        most = max(most, len(rig.refused) - before)
    await settle()
    assert most <= 2
    assert what == "handshake" or all(each.closed for each in accepted)
    assert not rig.listener.waiting
