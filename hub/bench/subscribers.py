"""The subscribed connections of one reader process, and what they saw together."""

import select
import time

from hub.bench.greetings import AT_DIGITS, AT_NEEDLE, made_at
from hub.bench.latencies import Latencies
from hub.bench.plan import ReaderReport
from hub.bench.stream_check import MESSAGE
from hub.bench.tap import Basin, Tap

SAMPLE_EVERY = 8
"""Latency is taken on one connection of so many, spread over the order they connected in."""
MAX_FAILURES_TOLD = 10
_STAMP_BYTES = len(AT_NEEDLE) + AT_DIGITS


class Subscribers:
    """Reads whichever connection is ready and keeps the sums."""

    def __init__(self, epoll: select.epoll, basin: Basin) -> None:
        self._epoll = epoll
        self._basin = basin
        self._open: dict[int, Tap] = {}
        self._all: list[Tap] = []
        self._sampled: set[int] = set()
        self._failures: list[str] = []
        self._latencies = Latencies()
        self._bytes = 0
        self._bytes_before = 0
        self.delivered = 0
        self.ended = 0
        self.last_ns = 0

    @property
    def connected(self) -> int:
        """Connections that were subscribed, also those lost since."""
        return len(self._all)

    def add(self, tap: Tap) -> None:
        """Take over a connection whose subscription stands."""
        fileno = tap.sock.fileno()
        self._open[fileno] = tap
        if len(self._all) % SAMPLE_EVERY == 0:
            self._sampled.add(fileno)
        self._all.append(tap)

    def fail(self, reason: str) -> None:
        """Remember a connection that could not be set up, or was lost."""
        self.ended += 1
        if len(self._failures) < MAX_FAILURES_TOLD:
            self._failures.append(reason)

    def begin(self) -> None:
        """Forget latencies and bytes so far: the measured phase begins."""
        self._latencies = Latencies()
        self._bytes_before = self._bytes

    def read(self, fileno: int) -> None:
        """Read one ready connection once; a level-triggered epoll tells when there is more."""
        tap = self._open[fileno]
        kept, before = len(tap.rest), tap.check.received
        try:
            end = tap.fill(self._basin)
        except BlockingIOError:
            return
        except (OSError, EOFError) as error:
            self._lose(fileno, tap, str(error))
            return
        self._bytes += end - kept
        tap.account(self._basin, end)
        if tap.check.received != before:
            self.delivered += tap.check.received - before
            if fileno in self._sampled:
                self._sample(end)

    def close(self) -> None:
        """Close every connection that is still open."""
        for tap in self._open.values():
            tap.sock.close()
        self._open.clear()

    def report(self, cpu_seconds: float) -> ReaderReport:
        """Everything that was seen; `cpu_seconds` is what this process used for it."""
        checks = [tap.check for tap in self._all]
        return ReaderReport(
            failures=tuple(self._failures),
            alive=len(self._open),
            received=sum(check.received for check in checks),
            duplicates=sum(check.duplicates for check in checks),
            skipped=sum(check.skipped for check in checks),
            gaps=sum(check.gaps for check in checks),
            announced=sum(check.announced for check in checks),
            heartbeats=sum(check.quiet for check in checks),
            fewest_heartbeats=min((check.quiet for check in checks), default=0),
            measured_bytes=self._bytes - self._bytes_before,
            last_ns=self.last_ns,
            cpu_seconds=cpu_seconds,
            latency_counts=self._latencies.counts,
            latency_max_ns=self._latencies.max_ns,
        )

    def _lose(self, fileno: int, tap: Tap, reason: str) -> None:
        self._epoll.unregister(fileno)
        del self._open[fileno]
        tap.sock.close()
        self.fail(f"lost after {tap.check.received:,} messages: {reason}")

    def _sample(self, end: int) -> None:
        """Take the oldest and the newest message of the chunk in the basin."""
        buffer, now = self._basin.buffer, time.monotonic_ns()
        first = buffer.find(AT_NEEDLE, buffer.find(MESSAGE, 0, end), end)
        last = buffer.rfind(AT_NEEDLE, 0, end)
        for at in {first, last}:
            if at >= 0 and at + _STAMP_BYTES <= end:
                self._latencies.add(now - made_at(buffer, at))
