"""POST for threads, straight to a hub, over sockets that are kept open with one request on each."""

import contextlib
import select
import socket
import ssl
import threading
import time

from hub_client.answer import (
    AnswerReader,
    HttpResponse,
    PostFailedError,
    PostTarget,
    cut,
    none_free,
    not_reached,
)

_READ_BYTES = 65_536


class BlockingPost:
    """The connections to one server. Threads may share them; they connect when first used."""

    def __init__(
        self,
        server: PostTarget,
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
        connect_seconds: float,
    ) -> None:
        """Args:
        server: where to.
        tls: for one that is `https`.
        max_connections: at the same time.
        connect_seconds: for a free place, and again for connecting.
        """
        self._server = server
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._places = threading.BoundedSemaphore(max_connections)
        self._idle: list[_Line] = []
        self._open: set[_Line] = set()
        self._closed = False

    def post(self, body: bytes, *, seconds: float) -> HttpResponse:
        """Return the answer; raise `PostFailedError` where none comes whole within `seconds`."""
        deadline = time.monotonic() + seconds
        if not self._places.acquire(timeout=self._connect_seconds):
            raise none_free()
        try:
            return self._exchange(self._connection(), body, deadline)
        finally:
            self._places.release()

    def _exchange(self, line: "_Line", body: bytes, deadline: float) -> HttpResponse:
        reader, connection = line.reader, line.socket
        reader.begin()
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.sendall(self._server.request(body))
            while reader.answer is None:
                # Of one that trickles each byte would be in time.
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                if data := connection.recv(_READ_BYTES):
                    reader.feed(data)
                else:
                    reader.end()
        except OSError as error:
            raise cut(error) from None
        finally:
            # Also where a signal's exception ends this in the middle.
            if reader.may_reuse and not self._closed:
                self._idle.append(line)
            else:
                self._end(line)
        return reader.answer

    def _connection(self) -> "_Line":
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return self._connect()
            if not _has_ended(line.socket):
                return line
            self._end(line)

    def _connect(self) -> "_Line":
        server = self._server
        connection: socket.socket | None = None
        try:
            connection = socket.create_connection((server.host, server.port), self._connect_seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server.secure and self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=server.host)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, OSError | UnicodeError):
                raise not_reached(error) from None
            raise
        line = _Line(connection)
        self._open.add(line)
        if self._closed:
            self._end(line)
            raise PostFailedError("closed", reached=False, ours=True)
        return line

    def _end(self, line: "_Line") -> None:
        self._open.discard(line)
        line.socket.close()

    def close(self) -> None:
        """End all connections; requests under way in other threads end as cut off."""
        self._closed = True
        for line in tuple(self._open):
            with contextlib.suppress(OSError):  # it has ended already
                line.socket.shutdown(socket.SHUT_RDWR)
            if line in self._idle:
                self._end(line)


class _Line:
    """One connection, and the reader of its answers."""

    __slots__ = ("reader", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.reader = AnswerReader()


def _has_ended(connection: socket.socket) -> bool:
    """Return whether the connection is closed: a hub that sends without being asked has closed
    it."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection], [], [], 0)[0])
