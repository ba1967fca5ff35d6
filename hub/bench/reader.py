"""The process that holds subscribers: one epoll loop over bare sockets.

It must not cost more than the server whose messages it reads; its report says how busy it was.
"""

import gc
import resource
import select
import time
from multiprocessing.connection import Connection

from hub.bench.connector import Connector
from hub.bench.plan import Order, ReadJob
from hub.bench.progress import Progress
from hub.bench.subscribers import Subscribers
from hub.bench.tap import Basin

POLL_SECONDS = 0.1
EVENTS_AT_ONCE = 4096
# Besides the subscribers' sockets: standard streams, pipes, epoll.
_OTHER_FILES = 64


def read_job(job: ReadJob, orders: Connection, progress: Progress) -> None:
    """Be a reader process: connect, read until `Order.FINISH`, send a report, close."""
    allow_open_files(job.count + _OTHER_FILES)
    Reader(job, orders, progress).run()


def allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


class Reader:
    """One job's epoll loop."""

    def __init__(self, job: ReadJob, orders: Connection, progress: Progress) -> None:
        self._slot = job.slot
        self._orders = orders
        self._orders_fileno = orders.fileno()
        self._progress = progress
        self._epoll = select.epoll()
        self._basin = Basin()
        self._subscribers = Subscribers(self._epoll, self._basin)
        self._connector: Connector | None = Connector(
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

    def _dial(self, connector: Connector) -> None:
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
        if order is Order.BEGIN:
            self._cpu_before = time.process_time()
            self._subscribers.begin()
            self._orders.send(order)
        else:
            spent = time.process_time() - self._cpu_before
            self._orders.send(self._subscribers.report(spent))
            self._finished = True
