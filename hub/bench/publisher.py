"""The process that publishes, over one WebSocket, paced or as fast as subscribers receive.

Paced: publication n is due at start + n / rate, whatever became of the earlier ones, so a late one
does not move the schedule. Flat out: a closed loop, `window` publications ahead of the average
subscriber; an open loop would only fill outboxes.
"""

import contextlib
import re
import select
import socket
import time
from multiprocessing.connection import Connection

import orjson

from hub.bench.greetings import (
    channel_name,
    nchan_post,
    payload,
    publish_frame,
    publisher_request,
)
from hub.bench.plan import (
    BenchError,
    Contestant,
    Failed,
    PublishJob,
    PublishReport,
    PublishSeries,
    ServerAddress,
)
from hub.bench.progress import Progress
from hub.bench.tap import Basin, Tap

NETWORK_SECONDS = 10.0
"""The time that one step of the handshake, one send, or the last replies may take."""
LOOK_SECONDS = 0.0003
"""The interval at which the flat-out publisher checks whether it may go on: a third of the time
that a publication to 1,000 subscribers takes the server."""
BURST = 64
"""The number of publications that are sent at once at most."""
_SWITCHED = b"HTTP/1.1 101"
_ERROR = re.compile(rb'"error":({.*?})}|"op":"goodbye",.*?"reason":("(?:[^"\\]|\\.)*")')


def publish_job(job: PublishJob, orders: Connection, progress: Progress) -> None:
    """Be the publisher process: run each `PublishSeries` that is ordered, end at anything else.

    An error is an answer too: a `Failed`.
    """
    target = job.target
    try:
        _run(job, orders, progress)
    except (OSError, EOFError, BenchError) as error:
        with contextlib.suppress(OSError):
            orders.send(Failed(f"the publisher at {target.host}:{target.port}: {error}"))


def _run(job: PublishJob, orders: Connection, progress: Progress) -> None:
    kind = NchanPublisher if job.contestant is Contestant.NCHAN else LoadPublisher
    with contextlib.closing(kind(job.target, progress)) as publisher:
        orders.send(None)
        while True:
            publisher.wait_readable(orders)
            if not orders.poll(0):
                continue
            batch = orders.recv()
            if not isinstance(batch, PublishSeries):
                return
            orders.send(publisher.publish(batch))


def told_error(frames: bytes) -> str | None:
    """Return why the hub refused a publication, or ended the connection; None where no frame says
    so."""
    if (found := _ERROR.search(frames)) is None:
        return None
    error, goodbye = found.groups()
    try:
        told = orjson.loads(error or goodbye)
    except orjson.JSONDecodeError:
        return "the hub refused a publication"
    return f"{told['code']}: {told['message']}" if error else f"the hub said goodbye: {told}"


class LoadPublisher:
    """A publishing connection; its replies are counted like any stream of offsets."""

    def __init__(self, target: ServerAddress, progress: Progress) -> None:
        self._target = target
        self._progress = progress
        self._basin = Basin()
        self._sent = 0
        self._error = ""
        sock = socket.create_connection((target.host, target.port), timeout=NETWORK_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tap = Tap(sock)
        self._greeting()

    @property
    def _acknowledged(self) -> int:
        """The number of publications that were answered since the start."""
        return self._tap.check.received

    def close(self) -> None:
        """Close the connection."""
        self._tap.sock.close()

    def wait_readable(self, orders: Connection) -> None:
        """Wait for an order, answering pings meanwhile."""
        select.select([orders.fileno(), self._tap.sock.fileno()], [], [], 1.0)
        self._drain()

    def publish(self, batch: PublishSeries) -> PublishReport:
        """Publish the batch and wait for the replies."""
        first_ns = time.monotonic_ns()
        before, acknowledged = self._sent, self._acknowledged
        base, bunched = self._progress.delivered, 0
        end_ns = first_ns + int(batch.seconds * 1e9)
        while not self._error and (batch.count is None or self._sent - before < batch.count):
            if batch.count is None and time.monotonic_ns() >= end_ns:
                break
            count = self._allowed(batch, self._sent - before, first_ns, base)
            if count > 0:
                bunched += count - 1 if batch.rate else 0
                self._send(batch, count)
            else:
                self._wait(batch, self._sent - before, first_ns)
        self._await_replies(self._sent - before + acknowledged)
        return PublishReport(
            count=self._sent - before,
            acknowledged=self._acknowledged - acknowledged,
            first_ns=first_ns,
            error=self._error,
            bunched=bunched,
        )

    def _allowed(self, batch: PublishSeries, done: int, first_ns: int, base: int) -> int:
        """Return how many publications may be sent now."""
        if batch.rate:
            due = int((time.monotonic_ns() - first_ns) * batch.rate / 1e9) + 1
        else:
            due = (self._progress.delivered - base) // batch.subscribers + batch.window
        remaining = due if batch.count is None else min(due, batch.count)
        return min(remaining - done, BURST)

    def _send(self, batch: PublishSeries, count: int) -> None:
        frames = bytearray()
        for _ in range(count):
            self._sent += 1
            data = payload(time.monotonic_ns(), batch.payload_bytes, prose=batch.prose)
            frames += self._frame(channel_name(batch.channel, self._sent, batch.channels), data)
        self._tap.sock.sendall(frames)

    def _frame(self, channel: str, data: bytes) -> bytes:
        return publish_frame(self._sent, channel, data)

    def _wait(self, batch: PublishSeries, done: int, first_ns: int) -> None:
        """Wait until the next publication is due, or the moment to look again."""
        seconds = LOOK_SECONDS
        if batch.rate:
            seconds = max(0.0, done / batch.rate - (time.monotonic_ns() - first_ns) / 1e9)
        # A reply must not cut the wait short: at full speed there are a thousand a second.
        time.sleep(min(seconds, 0.1))
        self._drain()

    def _drain(self) -> None:
        """Read the replies and pings that have come."""
        while select.select([self._tap.sock], [], [], 0)[0]:
            end = self._tap.fill(self._basin)
            if (told := told_error(bytes(self._basin.view[:end]))) is not None:
                self._error = told
            self._tap.account(self._basin, end)

    def _await_replies(self, wanted: int) -> None:
        deadline = time.monotonic() + NETWORK_SECONDS
        while self._acknowledged < wanted and time.monotonic() < deadline:
            if self._error:
                return
            select.select([self._tap.sock], [], [], 0.1)
            self._drain()

    def _greeting(self) -> None:
        """Upgrade and read the answer; frames behind it are counted as usual."""
        self._tap.sock.sendall(publisher_request(self._target))
        head = b""
        while b"\r\n\r\n" not in head:
            end = self._tap.fill(self._basin)
            head = self._tap.rest = bytes(self._basin.view[:end])
            if not _SWITCHED.startswith(head[: len(_SWITCHED)]):
                status = head[:100].split(b"\r\n", 1)[0]
                raise BenchError(f"refused: {status.decode('latin-1')}")
        self._tap.rest = head.split(b"\r\n\r\n", 1)[1]


class NchanPublisher(LoadPublisher):
    """An HTTP connection to nchan; it numbers the publications, because nchan does not."""

    _ACCEPTED = b"HTTP/1.1 20"

    def __init__(self, target: ServerAddress, progress: Progress) -> None:
        self._answered = 0
        self._numbers: dict[str, int] = {}
        super().__init__(target, progress)

    @property
    def _acknowledged(self) -> int:
        return self._answered

    def _greeting(self) -> None:
        """Send nothing: the first request is a publication."""

    def _frame(self, channel: str, data: bytes) -> bytes:
        self._numbers[channel] = number = self._numbers.get(channel, 0) + 1
        return nchan_post(self._target, number, channel, data)

    def _drain(self) -> None:
        while select.select([self._tap.sock], [], [], 0)[0]:
            end = self._tap.fill(self._basin)
            text = bytes(self._basin.view[:end])
            self._answered += text.count(self._ACCEPTED)
            if b"HTTP/1.1 4" in text or b"HTTP/1.1 5" in text:
                self._error = text[:100].decode("latin-1")
            # A status line may be cut; the kept bytes are too short to be counted twice.
            self._tap.rest = text[-(len(self._ACCEPTED) - 1) :]
