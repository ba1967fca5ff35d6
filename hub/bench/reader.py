"""The process that holds subscribers: one epoll loop over bare sockets.

It must not cost more than the server whose messages it reads; its report says how busy it was.
"""

import gc
import resource
import select
import time
from multiprocessing.connection import Connection

from hub.bench.connector import SubscriberDialer
from hub.bench.greetings import AT_DIGITS, AT_NEEDLE, made_at
from hub.bench.latencies import Latencies
from hub.bench.plan import BenchError, LoadCommand, ReaderReport, ReadJob
from hub.bench.progress import Progress
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


POLL_SECONDS = 0.1
EVENTS_AT_ONCE = 4096
# Besides the subscribers' sockets: standard streams, pipes, epoll.
OTHER_FILES = 64


def read_job(job: ReadJob, orders: Connection, progress: Progress) -> None:
    """Be a reader process: connect, read until `LoadCommand.FINISH`, send a report, close."""
    allow_open_files(job.count + OTHER_FILES)
    LoadReader(job, orders, progress).run()


def allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as needed.

    Raises:
        BenchError: The hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    check_open_files(wanted)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_open_files(wanted: int) -> None:
    """Raise `BenchError` if this process, and those that it starts, may not open so many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(
            f"so many subscribers need {wanted:,} open files, and the system lets a process open"
            f" {hard:,} (ulimit -Hn): raise that limit, or take fewer --subscribers"
        )


class LoadReader:
    """Runs the epoll loop of one job."""

    def __init__(self, job: ReadJob, orders: Connection, progress: Progress) -> None:
        self._slot = job.slot
        self._orders = orders
        self._orders_fileno = orders.fileno()
        self._progress = progress
        self._epoll = select.epoll()
        self._basin = Basin()
        self._subscribers = Subscribers(self._epoll, self._basin)
        self._connector: SubscriberDialer | None = SubscriberDialer(
            job, self._epoll, connected=self._subscribers.add, failed=self._subscribers.fail
        )
        self._cpu_before = 0.0
        self._finished = False

    def run(self) -> None:
        """Turn the loop until told to finish."""
        self._epoll.register(self._orders_fileno, select.EPOLLIN)
        while not self._finished:
            if self._connector is not None:
                self._dial(self._connector)
            self._turn()
        self._subscribers.close()
        self._epoll.close()

    def _dial(self, connector: SubscriberDialer) -> None:
        connector.dial()
        if connector.done:
            self._connector = None
            # Nothing made so far is garbage: spare the collector walking 15,000 connections.
            gc.collect()
            gc.freeze()

    def _turn(self) -> None:
        before, read = self._subscribers.delivered, self._subscribers.read
        for fileno, events in self._epoll.poll(POLL_SECONDS, EVENTS_AT_ONCE):
            if fileno == self._orders_fileno:
                self._obey(self._orders.recv())
            elif not (self._connector and self._connector.on_event(fileno, events, self._basin)):
                read(fileno)
        if self._subscribers.delivered != before:
            self._subscribers.last_ns = time.monotonic_ns()
        self._progress.write(
            self._slot,
            connected=self._subscribers.connected,
            delivered=self._subscribers.delivered,
            ended=self._subscribers.ended,
        )

    def _obey(self, order: object) -> None:
        if order is LoadCommand.BEGIN:
            self._cpu_before = time.process_time()
            self._subscribers.begin()
            self._orders.send(order)
        else:
            spent = time.process_time() - self._cpu_before
            self._orders.send(self._subscribers.report(spent))
            self._finished = True
