"""The bytes of TLS connections: slices of few records, turns for the rest, and all in order."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.transports.connection.tls import (
    READ_BYTES,
    SLICE_BYTES,
    SLICE_RECORDS,
    Records,
    TlsAcceptor,
    TlsReading,
)
from hub.transports.turns import PIECE_SECONDS, Turns
from tests.core.fakes import FakeClock
from tests.support.certificates import Certificates, make_certificates

KEY_UPDATE = b"\x17\x03\x03\x00\x16" + b"k" * 22
"""As long as the record that changes a key."""


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2) + b"x" * size


def slices(data: bytes, reads: list[int] | None = None) -> list[bytes]:
    """The slices of `data`, which comes in reads of these sizes and a last one."""
    records, found, at = Records(), list[bytes](), 0
    for size in [*(reads or []), len(data)]:
        read = memoryview(data[at : at + size])
        at, begin = at + size, 0
        while begin < len(read):
            end = records.cut(read, begin)
            found.append(bytes(read[begin:end]))
            begin = end
    return found


def test_a_slice_has_few_records_however_small_they_are() -> None:
    found = slices(KEY_UPDATE * 100)
    assert [len(each) // len(KEY_UPDATE) for each in found] == [SLICE_RECORDS] * 6 + [4]


def test_a_slice_has_few_bytes_however_large_its_records_are() -> None:
    found = slices(record(40_000) * 3)
    assert max(map(len, found)) == SLICE_BYTES
    assert b"".join(found) == record(40_000) * 3


@given(
    sizes=st.lists(st.integers(0, 70), max_size=60),
    reads=st.lists(st.integers(1, 30), max_size=60),
)
def test_wherever_reads_are_cut_no_slice_has_more_records_and_no_byte_is_lost(
    sizes: list[int], reads: list[int]
) -> None:
    data = b"".join(map(record, sizes))
    found = slices(data, reads)
    assert b"".join(found) == data
    ends, at = set[int](), 0
    for size in sizes:
        at += 5 + size
        ends.add(at)
    at = 0
    for each in found:
        assert each
        assert len(ends & set(range(at + 1, at + len(each) + 1))) <= SLICE_RECORDS
        at += len(each)


# -- turns, on a transport and a library that only note -------------------------------------------


class FakeTransport:
    def __init__(self) -> None:
        self.protocol: object = None
        self.reading = True
        self.closed = False

    def get_protocol(self) -> object:
        return self.protocol

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


class Library:
    """The library's protocol.

    Args:
        seconds: the time of each slice.
    """

    def __init__(self, clock: FakeClock, transport: FakeTransport, seconds: float) -> None:
        self._clock = clock
        self._transport = transport
        self.seconds = seconds
        self.slices: list[bytes] = []
        self.pauses = False
        """Whether it takes no more after a slice."""
        self.ended: list[int] = []
        """The number of slices that came before the peer's end."""
        self.lost = 0
        self._room = bytearray(SLICE_BYTES)

    def get_buffer(self, sizehint: int) -> bytearray:
        assert 0 < sizehint <= SLICE_BYTES
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.slices.append(bytes(self._room[:nbytes]))
        self._clock.advance(self.seconds)
        if self.pauses:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self.ended.append(len(self.slices))

    def connection_lost(self, _: Exception | None) -> None:
        self.lost += 1


class Rig:
    def __init__(self, seconds: float = 2 * PIECE_SECONDS) -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport()
        self.library = Library(self.clock, self.transport, seconds)
        self.turns = Turns(self.clock)
        self.reading = TlsReading(self.turns, memoryview(bytearray(READ_BYTES)), "192.0.2.7")
        self.reading.connection_made(self.transport)  # type: ignore[arg-type]

    def begin(self) -> None:
        self.transport.protocol = self.library
        self.reading.stand_before()
        self.reading.opened()

    def receive(self, data: bytes) -> None:
        self.reading.get_buffer(-1)[: len(data)] = data
        self.reading.buffer_updated(len(data))

    async def turn(self, count: int = 1) -> None:
        for _ in range(count):
            await asyncio.sleep(0)


async def test_behind_a_slice_that_took_its_time_the_rest_waits_and_nothing_is_read() -> None:
    """Before, one read of changes of the key held the loop for all of them."""
    rig = Rig()
    rig.begin()
    data = KEY_UPDATE * (SLICE_RECORDS * 3)
    rig.receive(data)
    assert (len(rig.library.slices), rig.transport.reading) == (1, False)
    await rig.turn()
    assert len(rig.library.slices) == 2
    await rig.turn()
    assert (b"".join(rig.library.slices), rig.transport.reading) == (data, True)


async def test_a_read_that_takes_little_waits_for_nothing() -> None:
    rig = Rig(seconds=0)
    rig.begin()
    rig.receive(KEY_UPDATE * 100)
    assert (b"".join(rig.library.slices), rig.transport.reading) == (KEY_UPDATE * 100, True)


async def test_a_pause_of_the_library_outlasts_the_turns() -> None:
    rig = Rig()
    rig.begin()
    rig.library.pauses = True
    rig.receive(KEY_UPDATE * (SLICE_RECORDS * 3))
    await rig.turn(5)
    assert (len(rig.library.slices), rig.transport.reading) == (3, False)


async def test_in_a_handshake_each_record_has_a_turn() -> None:
    """Behind it stands a protocol that does not know of its connection before the loop's turn."""
    rig = Rig(seconds=0)
    rig.transport.protocol = rig.library
    rig.reading.stand_before()
    rig.receive(KEY_UPDATE * (SLICE_RECORDS * 3))
    assert rig.library.slices == []
    await rig.turn(2)
    assert rig.library.slices == [KEY_UPDATE]
    rig.reading.opened()
    await rig.turn(4)
    assert b"".join(rig.library.slices) == KEY_UPDATE * (SLICE_RECORDS * 3)


async def test_in_a_handshake_records_come_in_turns_of_the_loop_also_where_turns_are_long() -> None:
    """A callback of the loop's tells the protocol of its connection: it stands between the two."""
    rig = Rig(seconds=0)
    rig.transport.protocol = rig.library
    rig.reading.stand_before()
    rig.receive(KEY_UPDATE * 5)
    seen = []
    while len(rig.library.slices) < 5:
        rig.clock.advance(1)  # other work, so that a turn of the queue takes its share of it
        before = len(rig.library.slices)
        await asyncio.sleep(0)
        seen.append(len(rig.library.slices) - before)
    assert max(seen) == 1


async def test_bytes_before_the_library_has_the_transport_come_to_it() -> None:
    rig = Rig()
    rig.receive(b"\x16\x03\x01")
    assert not rig.transport.reading
    rig.begin()
    await rig.turn(2)
    assert (rig.library.slices, rig.transport.reading) == ([b"\x16\x03\x01"], True)


async def test_the_end_of_the_peer_comes_behind_its_bytes() -> None:
    rig = Rig()
    rig.begin()
    rig.receive(KEY_UPDATE * (SLICE_RECORDS * 3))
    assert rig.reading.eof_received() is True
    await rig.turn(5)
    assert (rig.library.ended, rig.transport.closed) == ([3], True)


async def test_a_connection_that_is_gone_has_no_turn() -> None:
    rig = Rig()
    rig.begin()
    rig.receive(KEY_UPDATE * (SLICE_RECORDS * 3))
    rig.reading.connection_lost(None)
    await rig.turn(5)
    assert (len(rig.library.slices), rig.library.lost) == (1, 1)


async def test_a_peer_that_is_gone_before_its_handshake_is_told_to_the_library() -> None:
    rig = Rig()
    rig.reading.connection_lost(None)
    rig.begin()
    assert rig.library.lost == 1


# -- with OpenSSL ----------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(Path(tmp_path_factory.mktemp("tls")))


def accepting(certificates: Certificates, *, close_timeout_seconds: float = 5) -> TlsAcceptor:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    turns = Turns(asyncio.get_running_loop().time)
    return TlsAcceptor(context, turns, close_timeout_seconds=close_timeout_seconds)


@contextlib.asynccontextmanager
async def echoing(
    certificates: Certificates, make: Callable[[], asyncio.Protocol] = Echo
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    acceptor = accepting(certificates)
    trusting = ssl.create_default_context(cafile=certificates.authority)
    ours, theirs = socket.socketpair()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(acceptor.begin(ours, make, place="one", timeout_seconds=10))
        reader, writer = await asyncio.open_connection(
            sock=theirs, ssl=trusting, server_hostname="127.0.0.1"
        )
        yield reader, writer
        writer.close()


async def test_megabytes_come_whole_and_in_order(certificates: Certificates) -> None:
    data = bytes(number % 251 for number in range(3_000_000))
    async with echoing(certificates) as (reader, writer):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data


async def test_thousands_of_records_of_one_byte_come_whole(certificates: Certificates) -> None:
    async with echoing(certificates) as (reader, writer):
        for number in range(5000):
            writer.write(bytes([number % 251]))
        assert await reader.readexactly(5000) == bytes(number % 251 for number in range(5000))


async def test_the_library_holds_little_for_a_protocol_that_takes_nothing(
    certificates: Certificates,
) -> None:
    """Before, it held up to 256 KiB, and kept as much until the connection ended."""
    made: list[asyncio.Transport] = []

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            made.append(transport)

    async with echoing(certificates, Deaf) as (_, writer):
        writer.write(bytes(3_000_000))
        for _ in range(200):
            await asyncio.sleep(0)
        held = made[0].get_read_buffer_size()  # type: ignore[attr-defined]
        assert 0 < held <= SLICE_BYTES + READ_BYTES
        made[0].abort()


async def test_a_peer_that_does_not_answer_a_close_holds_its_socket_for_the_time_of_a_close(
    certificates: Certificates,
) -> None:
    """Before, it held it for 30 s, whatever the setting says."""
    lost = asyncio.Event()

    class Closing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    acceptor = accepting(certificates, close_timeout_seconds=0.05)
    trusting = ssl.create_default_context(cafile=certificates.authority)
    ours, theirs = socket.socketpair()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(acceptor.begin(ours, Closing, place="one", timeout_seconds=10))
        # A blocking socket reads nothing behind its handshake, so it sees no close.
        peer = await asyncio.to_thread(trusting.wrap_socket, theirs, server_hostname="127.0.0.1")
        with peer:
            await lost.wait()


@pytest.mark.parametrize("sent", [b"no TLS at all\r\n\r\n", record(200), b""])
async def test_a_handshake_that_fails_is_no_connection_that_is_lost(
    certificates: Certificates, sent: bytes
) -> None:
    """Each such peer left a traceback in the log: asyncio told of a loss before there was one."""
    told: list[str] = []

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            told.append("made")

        def connection_lost(self, exc: Exception | None) -> None:
            told.append("lost")

    acceptor = accepting(certificates)
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r".*"):
            await acceptor.begin(ours, Noting, place="one", timeout_seconds=10)
        for _ in range(5):
            await asyncio.sleep(0)
    assert told == []


@pytest.mark.parametrize("whole", [True, False])
async def test_http_without_tls_is_told_to_use_https(
    certificates: Certificates, whole: bool
) -> None:
    """A client that is told nothing shows `Server disconnected`, and its user guesses."""
    acceptor = accepting(certificates)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    with theirs:
        await loop.sock_sendall(theirs, b"GET /readyz HTTP/1.1\r\n\r\n" if whole else b"G")
        with pytest.raises(OSError, match=r".*"):
            await acceptor.begin(ours, asyncio.Protocol, place="one", timeout_seconds=10)
        answer = b""
        while more := await loop.sock_recv(theirs, 4096):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in head
    assert json.loads(body)["detail"] == "this port speaks TLS: use https:// or wss://"
