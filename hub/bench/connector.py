"""Sets up many connections with a bounded number under way, in the reader's epoll loop.

A listener's backlog is finite and a handshake dropped for want of room is repeated only after
a second, so more at a time is not faster. A connection counts when its subscription does.
"""

import errno
import select
import socket
import time
from collections.abc import Callable

from hub.bench.greetings import channel_name, subscribe_request
from hub.bench.plan import Contestant, ReadJob
from hub.bench.stream_check import ChannelsCheck, KnownChunks, StreamCheck
from hub.bench.tap import Basin, InflatingTap, Tap

DIAL_SECONDS = 15.0
"""A connection that is not subscribed after this time has failed; the hub gives a handshake 10 s.
"""
# Messages of the head and the welcome together; more than this is not a hub.
MAX_GREETING_BYTES = 16 * 1024
_SUBSCRIBED = b'"op":"subscribed"'
_ANSWER = {Contestant.SSE: b"HTTP/1.1 200"}
# Nchan has no word for it, and a compressed one cannot be read here; the hub sends it with the
# answer to the upgrade.
_UNTOLD = frozenset({Contestant.NCHAN, Contestant.COMPRESSED})
_UPGRADED = b"HTTP/1.1 101"


class SubscriberDialer:
    """Dial `job.count` connections and hand over each one that is subscribed."""

    def __init__(
        self,
        job: ReadJob,
        epoll: select.epoll,
        *,
        connected: Callable[[Tap], None],
        failed: Callable[[str], None],
    ) -> None:
        self._job = job
        self._epoll = epoll
        self._connected = connected
        self._failed = failed
        self._next = job.first
        self._remaining = job.count
        self._dialling: dict[int, tuple[Tap, float]] = {}
        self._known_chunks = KnownChunks()

    @property
    def done(self) -> bool:
        """Whether every connection has either succeeded or failed."""
        return not self._remaining and not self._dialling

    def dial(self) -> None:
        """Start as many connections as may be under way; give up those that take too long."""
        now = time.monotonic()
        late = [tap for tap, started in self._dialling.values() if now - started > DIAL_SECONDS]
        for tap in late:
            self._fail(tap, f"not subscribed within {DIAL_SECONDS:g} s")
        while self._remaining and len(self._dialling) < self._job.in_flight:
            self._remaining -= 1
            self._start(now)

    def on_event(self, fileno: int, events: int, basin: Basin) -> bool:
        """Take one step of a handshake; return False when the socket is not one of these."""
        entry = self._dialling.get(fileno)
        if entry is None:
            return False
        try:
            self._step(entry[0], events, basin)
        except BlockingIOError:
            return True
        except (OSError, EOFError) as error:
            self._fail(entry[0], str(error))
        return True

    def _start(self, now: float) -> None:
        sock = socket.socket()
        one = self._job.channels_each == 1
        check = StreamCheck(self._known_chunks) if one else ChannelsCheck()
        made = InflatingTap if self._job.contestant is Contestant.COMPRESSED else Tap
        tap = made(sock, check)
        sock.setblocking(False)
        self._dialling[sock.fileno()] = (tap, now)
        self._epoll.register(sock, select.EPOLLOUT)
        result = sock.connect_ex((self._job.target.host, self._job.target.port))
        if result not in (0, errno.EINPROGRESS):
            self._fail(tap, errno.errorcode.get(result, str(result)))

    def _step(self, tap: Tap, events: int, basin: Basin) -> None:
        if events & select.EPOLLOUT:
            self._greet(tap)
        else:
            self._hear(tap, basin)

    def _greet(self, tap: Tap) -> None:
        error = tap.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, errno.errorcode.get(error, "connect failed"))
        tap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._epoll.modify(tap.sock, select.EPOLLIN)
        request = self._take_request()
        if not request:
            self._succeed(tap)
        # A fresh socket's buffer takes a request head of some hundred bytes whole.
        elif tap.sock.send(request) != len(request):
            raise OSError("the request was sent in part")

    def _take_request(self) -> bytes:
        """Return the request of the next connection: its channels follow those of the one
        before."""
        job, each = self._job, self._job.channels_each
        numbers = range(self._next * each, (self._next + 1) * each)
        self._next += 1
        names = [channel_name(job.channel, number, job.channels) for number in numbers]
        return subscribe_request(job.target, job.contestant, *names)

    def _hear(self, tap: Tap, basin: Basin) -> None:
        end = tap.fill(basin)
        tap.rest = bytes(basin.view[:end])
        if end >= 12 and not tap.rest.startswith(_ANSWER.get(self._job.contestant, _UPGRADED)):
            raise OSError("refused: " + tap.rest.split(b"\r\n", 1)[0].decode("latin-1")[:100])
        if end > MAX_GREETING_BYTES:
            raise OSError(f"greeting is over {MAX_GREETING_BYTES:,} bytes")
        untold = self._job.contestant in _UNTOLD
        told, times = (b"\r\n\r\n", 1) if untold else (_SUBSCRIBED, self._job.channels_each)
        if tap.rest.count(told) >= times:
            # Nothing was published yet, but a first ping may have come along already.
            tap.account(basin, end)
            tap.check.quiet = 0
            self._succeed(tap)

    def _succeed(self, tap: Tap) -> None:
        del self._dialling[tap.sock.fileno()]
        self._connected(tap)

    def _fail(self, tap: Tap, reason: str) -> None:
        del self._dialling[tap.sock.fileno()]
        self._epoll.unregister(tap.sock)
        tap.sock.close()
        self._failed(reason)
