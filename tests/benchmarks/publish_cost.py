"""Measures what a publication costs its client: both publishers beside a bare `http.client`.

    uv run python -m tests.benchmarks.publish_cost [--number 5000] [--rounds 5]

Every round measures each way once, so that they share what else the machine does: CPU time of this
process in microseconds for each publication (the least of the rounds), how many are made in a
second of wall time (the most), and how often the event loop asks the kernel for each. The hub
runs in a process of its own, on the first core where there are two, and this one on the last.
"""

import argparse
import asyncio
import http.client
import os
import selectors
import time
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from hub_client import Publisher, SyncPublisher
from tests.support.hub_process import HubProcess

DATA = {"eur": 1.08, "n": 12345}

Publish = Callable[[int], object]


class CountingSelector(selectors.DefaultSelector):
    """Counts the turns of an event loop: each asks the selector once."""

    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


class Way:
    """One way to publish, measured."""

    def __init__(
        self, name: str, publish: Publish, *, number: int, selector: CountingSelector | None = None
    ) -> None:
        self._name = name
        self._publish = publish
        self._number = number
        self._selector = selector or CountingSelector()
        self._cpu_us = float("inf")
        self._per_second = 0.0
        self._turns = 0.0
        publish(number // 10)

    def measure(self) -> None:
        turns = self._selector.turns
        began, cpu = time.perf_counter(), time.process_time()
        self._publish(self._number)
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
        self._cpu_us = min(self._cpu_us, cpu / self._number * 1e6)
        self._per_second = max(self._per_second, self._number / seconds)
        self._turns = (self._selector.turns - turns) / self._number

    def __str__(self) -> str:
        turns = f"{self._turns:6.2f} turns" if self._turns else ""
        return f"{self._name:24} {self._cpu_us:6.0f} us {self._per_second:9,.0f} /s {turns}"


def by_http_client(url: str) -> Publish:
    """The floor: one connection, one request after another, nothing tried again."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    headers = {"Content-Type": "application/json"}

    def publish(number: int) -> None:
        for _ in range(number):
            item = {"channel": "a", "data": DATA, "idempotency_key": uuid.uuid4().hex}
            body = msgspec.json.encode([item])
            connection.request("POST", "/api/publish", body, headers)
            connection.getresponse().read()

    return publish


def by_sync_publisher(url: str) -> Publish:
    publisher = SyncPublisher(url)

    def publish(number: int) -> None:
        for _ in range(number):
            publisher.publish("a", DATA)

    return publish


def measured(url: str, number: int, runner: asyncio.Runner, turns: CountingSelector) -> list[Way]:
    publisher = Publisher(url)

    async def loop(number: int) -> None:
        for _ in range(number):
            await publisher.publish("a", DATA)

    async def gather(number: int) -> None:
        await asyncio.gather(*(publisher.publish("a", DATA) for _ in range(number)))

    def in_turn(number: int) -> None:
        runner.run(loop(number))

    def at_once(number: int) -> None:
        runner.run(gather(number))

    return [
        Way("http.client", by_http_client(url), number=number),
        Way("SyncPublisher", by_sync_publisher(url), number=number),
        Way("Publisher, a loop", in_turn, number=number, selector=turns),
        Way("Publisher, gather", at_once, number=10 * number, selector=turns),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--number", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    turns = CountingSelector()
    with (
        HubProcess() as hub,
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner,
    ):
        os.sched_setaffinity(0, cores[-1:])
        ways = measured(hub.url, given.number, runner, turns)
        for _ in range(given.rounds):
            for way in ways:
                way.measure()
        for way in ways:
            print(way, flush=True)


if __name__ == "__main__":
    main()
