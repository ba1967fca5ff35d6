"""What a publication costs the client that makes it: both publishers beside a bare `http.client`.

    uv run python -m tests.benchmarks.publish_cost [--number 5000] [--rounds 5]

CPU time of this process, in microseconds for each publication, the least of the rounds; and how
many are made in a second of wall time. The hub runs in a process of its own, on the first core
where there are two, and this one on the last.
"""

import argparse
import asyncio
import http.client
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec

from hub_client import Publisher, SyncPublisher
from tests.support.hub_process import HubProcess

DATA = {"eur": 1.08, "n": 12345}


class Row:
    """One way to publish, measured."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cpu_us = float("inf")
        self.per_second = 0.0

    def note(self, number: int, cpu_seconds: float, seconds: float) -> None:
        self.cpu_us = min(self.cpu_us, cpu_seconds / number * 1e6)
        self.per_second = max(self.per_second, number / seconds)

    def __str__(self) -> str:
        return f"{self.name:32} {self.cpu_us:8.0f} us {self.per_second:10,.0f} /s"


def by_http_client(url: str) -> Callable[[int], None]:
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


def by_sync_publisher(url: str) -> Callable[[int], None]:
    publisher = SyncPublisher(url)

    def publish(number: int) -> None:
        for _ in range(number):
            publisher.publish("a", DATA)

    return publish


def measure(row: Row, publish: Callable[[int], None], number: int, rounds: int) -> Row:
    publish(number // 10)
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        publish(number)
        row.note(number, time.process_time() - cpu, time.perf_counter() - began)
    return row


async def measure_async(
    row: Row, publish: Callable[[int], Awaitable[object]], number: int, rounds: int
) -> Row:
    await publish(number // 10)
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        await publish(number)
        row.note(number, time.process_time() - cpu, time.perf_counter() - began)
    return row


async def by_publisher(url: str, number: int, rounds: int) -> list[Row]:
    async with Publisher(url) as publisher:

        async def loop(number: int) -> None:
            for _ in range(number):
                await publisher.publish("a", DATA)

        async def gather(number: int) -> None:
            await asyncio.gather(*(publisher.publish("a", DATA) for _ in range(number)))

        return [
            await measure_async(Row("Publisher, a loop"), loop, number, rounds),
            await measure_async(Row("Publisher, gather"), gather, 10 * number, rounds),
        ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--number", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    with HubProcess() as hub:
        os.sched_setaffinity(0, cores[-1:])
        ways = {"http.client": by_http_client, "SyncPublisher": by_sync_publisher}
        for name, way in ways.items():
            print(measure(Row(name), way(hub.url), given.number, given.rounds), flush=True)
        for row in asyncio.run(by_publisher(hub.url, given.number, given.rounds)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
